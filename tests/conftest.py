"""Settings of the whole suite."""

from __future__ import annotations

import os

import torch

from workloads.core.numerics import STRICT_VARIABLE

# An operation without a deterministic form fails, here and in the workers of the tests, where a run records it.
os.environ[STRICT_VARIABLE] = "1"
torch.use_deterministic_algorithms(True)

# Tensors here are small: two threads gain nothing, and on a busy machine they wait for each other.
torch.set_num_threads(1)
