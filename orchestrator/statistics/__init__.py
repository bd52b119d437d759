"""What differences between points of a sweep are worth, computed from arrays of numbers alone.

`paired.py` compares points measured on the same people or images, with the same training seeds. Imports nothing of the
project. Begin with `paired.py`.
"""
