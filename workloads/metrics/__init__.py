"""Every number, with its uncertainty: one metric per file.

`base.py` defines what a metric is and what it is computed from; `intervals.py` gives values their intervals, with
`correlated_trials.py` for shares of success; `geometry.py` holds convex polygons; `random_features.py` compares a
prior's samples with public images. Imports from the rooms below. Begin with `base.py`, then `attack_accuracy.py`.
"""
