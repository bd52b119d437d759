"""Where jobs run: `inline.py` in this process, `ray/` on a cluster, both behind the interface in `base.py`.

`running.py` runs one job into the store, whoever calls it. Imports `planning/`, `search/` and `store/`; Ray is imported
in `ray/` alone. Begin with `base.py`, then `inline.py`.
"""
