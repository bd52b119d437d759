"""How a network is trained, as settings: `optimization.py` (optimiser, schedule, published protocols) and
`augmentation.py` (what is done to a batch of training images before normalisation). Imports from `core` alone.
"""
