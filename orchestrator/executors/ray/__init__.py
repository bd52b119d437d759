"""The Ray executor, the one room that imports Ray.

`executor.py` drives Ray Tune, whose trials (`thin_trial.py`) ask the broker (`broker.py`) for their jobs; `pool.py`
keeps warm worker processes (`worker.py`) on nodes; `searcher.py` hands points to Tune; `cluster.py` joins or starts
Ray. Begin with `executor.py`, then `broker.py`.
"""
