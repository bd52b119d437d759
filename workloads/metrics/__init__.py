"""Every number, with its uncertainty: one metric a file.

`base.py` defines what a metric is given; `intervals.py` makes an estimate with an interval of scores; `geometry.py`
holds distances, `feature_space.py` and `random_features.py` the spaces they are taken in. Imports from the rooms
below. Begin with `base.py`, then `attack_accuracy.py`.
"""
