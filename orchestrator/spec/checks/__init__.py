"""What can be wrong with a well-formed spec: fields that do not fit together, or do not fit the data or the machine.

`spec_problems.py` collects the problems that `data.py`, `images.py`, `search.py`, `networks.py` (with `defenses.py` and
`attacks.py`), `metrics.py` and `resources.py` find; `problem.py` says what a problem is, `building.py` finds those that
show when something is built, and `remarks.py` notes what is not wrong and should be known. This room imports `search/`,
`placement/` and `workloads`. Begin with `spec_problems.py`.
"""
