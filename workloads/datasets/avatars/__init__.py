"""Drawn faces with known traits: `dataset.py` is the component, `drawing.py` draws a face from its traits."""

from workloads.datasets.avatars.dataset import Avatars as Avatars
