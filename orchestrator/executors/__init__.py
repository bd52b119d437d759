"""Where jobs run: `inline.py` in this process, `ray/` on a cluster, both behind the interface in `base.py`.

Both run a job by `run_job.py` and record what happens by `recorder.py`. Imports `planning/`, `placement/` and `store/`;
Ray is imported in `ray/` alone. Begin with `base.py`, then `inline.py`.
"""
