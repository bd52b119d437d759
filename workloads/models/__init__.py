"""Classifiers: one architecture a file, each a `Classifier` with features, a head and its own normalisation.

`base.py` defines what all of them share and how their weights are drawn; `torchvision.py` and `timm.py` take any
classifier of those libraries by name. Imports from `core` alone. Begin with `base.py`, then `small_cnn.py`.
"""
