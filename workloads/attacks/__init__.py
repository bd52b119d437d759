"""Attacks, one a file and nothing else; what they are built of stands in `workloads/inversion/`.

Each file holds an attack's settings, with its authors' defaults, and its class. Imports from the rooms below.
Begin with `gmi.py`, the simplest; `tests/test_layering.py` checks that every file here registers an attack.
"""
