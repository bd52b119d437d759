"""Defenses and controls: one per file, each a set of hooks into training that do nothing by default.

`base.py` defines `Defense` and says when each hook is called; `random_erasing.py` is the defense that this project is
about, `boxes.py` places its boxes, `erased_images.py` applies it with gradients for an attacker who knows it.
Imports from the rooms below. Begin with `base.py`, then `cutout.py`.
"""
