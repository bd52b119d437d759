"""What differences between points of a sweep are worth, computed from arrays of numbers alone.

`paired.py` compares points measured on the same people or images, with the same training seeds; `over_seeds.py` gives
the mean of a point its intervals; `membership.py` says how sure its place on the frontier is. Imports nothing of the
project. Begin with `paired.py`.
"""
