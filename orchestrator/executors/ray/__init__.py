"""The Ray executor, the one room that imports Ray.

`executor.py` drives Ray Tune, whose trials (`thin_trial.py`) ask the broker (`broker.py`) for their jobs. It runs each
after its inputs by `attempts.py`, on warm worker processes (`worker.py`) that `pool.py` keeps on nodes; `store_gate.py`
holds jobs back while the store is full, `shared_images.py` has data sets in memory, and `activity.py` tells displays.
`searcher.py` hands points to Tune; `preparation.py` plans and reads data while Ray starts. `cluster.py` joins or starts
Ray: `address.py` tries an address first, `embedded.py` keeps a Ray of this machine's to itself, `inspection.py` asks
every node for its software, the store and the data, `devices.py` for its GPUs, and `mps.py` lets jobs share those side
by side; `health.py` judges the answers for `midre doctor`, and `head.py` notices that the head is gone. When a worker
dies or runs out of memory, `executors/failures.py` decides what happens to its job. Begin with `executor.py`, then
`broker.py`.
"""
