"""The Ray executor, the one room that imports Ray.

`executor.py` drives Ray Tune, whose trials (`thin_trial.py`) ask the broker (`broker.py`) for their jobs; `pool.py`
keeps warm worker processes (`worker.py`) on nodes; `searcher.py` hands points to Tune; `cluster.py` joins or starts
Ray. When a worker dies or runs out of memory, `Broker._run_with_retries` decides what happens to its job. Begin with
`executor.py`, then `broker.py`.
"""
