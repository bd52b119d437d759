"""Normal numbers for tests, the same under the same name."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.core.randomness import generator


def drawn(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator("test", purpose))
