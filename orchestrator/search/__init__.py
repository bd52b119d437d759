"""Which points of the search space are tried: `search.py` gives out trials and hears of their outcomes; `grid.py`,
`random.py` and `tpe.py` are samplers behind the interface in `base.py`; `pareto.py` finds the frontier.
Imports `spec/`, `planning/` and `store/`. Begin with `search.py`.
"""
