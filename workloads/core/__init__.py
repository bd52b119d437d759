"""Code that every other room builds on; this room imports none of them.

`config.py` (frozen settings, their canonical JSON and digest), `field_docs.py` (descriptions of their fields),
`registry.py` (components by kind), `randomness.py` (named generators), `numerics.py` (determinism and precision),
`memory.py` (what computing takes), `resampling.py` (images cropped, turned and resized), `errors.py`, `files.py`
(files replaced as a whole), `checkpoints.py` (tensors and values as safetensors), `weights.py` (weights trained
elsewhere), `networks.py` (networks as folders), `pictures.py` (image grids). Begin with `config.py`.
"""
