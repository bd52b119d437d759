"""How a search chooses its points: `space.py` describes what is varied and what is traded, `samplers/` choose the
points, `pareto.py` finds the frontier, `ranking.py` picks the best, `units.py` gives a number its unit by its name.
Imports from no other room. Begin with `space.py`, then `samplers/base.py`.
"""
