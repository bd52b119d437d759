"""Settings of how a network is trained: `optimization.py` has optimiser, schedule and published protocols,
`augmentation.py` varies a batch of training images before it is normalised. Imports from `core` alone. Begin with
`optimization.py`.
"""
