"""Classifiers: one architecture a file, each a `Classifier` with features, a head and its own normalisation.

`base.py` defines what all of them share and how their weights are drawn; `shortcuts.py` and `improved_residual.py` are
parts of several architectures; `torchvision.py` and `timm.py` build any classifier of those libraries by name. Imports
from `core` alone. Begin with `base.py`, then `small_cnn.py`.
"""
