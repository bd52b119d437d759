"""Drawn faces with known traits: `dataset.py` is the data set, `drawing.py` draws a face from its traits."""

from workloads.datasets.avatars.dataset import Avatars as Avatars
