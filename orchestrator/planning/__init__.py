"""From a spec and a point of the search to jobs with keys, and where each job fits.

`plan.py` builds the jobs of a trial; `graph.py` holds jobs and trials as plain data; `placement.py` matches what a job
needs with what nodes have; `machine.py` describes this machine. Imports `spec/` and `workloads`. Begin with `plan.py`.
"""
