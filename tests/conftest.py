"""Settings of the whole suite."""

from __future__ import annotations

import torch

# Tensors here are small: two threads gain nothing, and on a busy machine they wait for each other.
torch.set_num_threads(1)
