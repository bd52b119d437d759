"""Terms of an inversion objective: each gives one loss an image, never a batch mean."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, identities: Tensor) -> Tensor:
    """Shape: (B, C), (B,) to (B,); smaller looks more like the identity."""
    return F.cross_entropy(logits, identities, reduction="none")
