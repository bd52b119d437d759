"""From a spec to trials, and from a trial to jobs with keys.

`search.py` gives out trials and hears of their outcomes; `plan.py` builds the jobs of a trial; `graph.py` holds trials
and jobs as plain data; `estimates.py` works out the GPU memory of jobs nobody has run yet. Imports `spec/`, `search/`,
`placement/` and `store/`. Begin with `plan.py`.
"""
