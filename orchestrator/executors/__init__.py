"""Where jobs run: `inline.py` in this process, `ray/` on a cluster, both behind the interface in `base.py`.

Both ask `sizer.py` what a job needs, run it by `run_job.py`, which measures by `usage.py` what it takes, judge by
`failures.py` why it failed, end when `stopping.py` hears a signal, and record what happens by `recorder.py`. Imports
`planning/`, `placement/` and `store/`; Ray is imported in `ray/` alone. Begin with `base.py`, then `inline.py`.
"""
