"""What a sweep runs, where, and what is kept of it; it imports `workloads`, never the reverse.

`sweep.py` ties the rooms together: `spec/` (what is asked for), `planning/` (the jobs that answer it), `search/` (which
points), `executors/` (where jobs run), `store/` (what is kept), `results/` (what came of it), `reports/` and
`tracking/` (how it is shown), `cli/` (the command line). Begin with `sweep.py`, then `planning/plan.py`.
"""
