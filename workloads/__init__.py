"""The jobs of a sweep and their parts: PyTorch and pydantic, no Ray, no MLflow, and nothing that knows of a sweep.

Rooms from the ground up: `core` (configuration, registry, randomness); `datasets`, `models`, `recipes`, `observation`;
`defenses` and `context`; `priors`, `training` and `black_boxes`; `inversion` and `metrics`; `attacks` and
`jobs` on top.
A module imports from its own floor and from those below, which `tests/test_layering.py` checks. Begin with
`context.py` (what a job may touch), then `jobs/` (what the jobs are).
"""
