"""The ground that every other room stands on, and that imports from none of them.

`config.py` (frozen settings, their canonical JSON and digest), `registry.py` (components by kind), `randomness.py`
(named generators), `errors.py`, `checkpoints.py` (tensors and values as safetensors), `weights.py` (weights trained
elsewhere), `networks.py` (networks as folders), `pictures.py` (image grids). Begin with `config.py`.
"""
