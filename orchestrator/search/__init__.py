"""Which points of the search space are tried: `search.py` gives out trials and hears of their outcomes, `samplers/`
choose the points, `pareto.py` finds the frontier. Imports `spec/`, `planning/` and `store/`. Begin with `search.py`.
"""
