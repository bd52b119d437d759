"""What a sweep runs, where, and what is kept of it; it imports `workloads`, never the reverse.

`sweep.py` ties the rooms together. From the ground up: `search/` (how points are chosen), `placement/` (where a job
fits) and `store/` (what is kept); `spec/` (what is asked for); `planning/` (trials and jobs that answer it);
`executors/` (how jobs are run) and `results/` (what came of them); `reports/` and `tracking/` (how it is shown);
`cli/` (the command line). Begin with `sweep.py`, then `planning/plan.py`.
"""
