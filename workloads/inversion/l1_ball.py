"""Projection onto an L1 ball."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.core.cumulative_sum import cumulative_sum


def within_l1_ball(vectors: Tensor, radii: Tensor) -> Tensor:
    """The nearest vectors whose absolute values sum to at most their radii.

    Shape: (B, ...), (B,) to (B, ...).
    Source: Duchi et al., "Efficient Projections onto the l1-Ball for Learning in High Dimensions", ICML 2008, figure 1.
    """
    flat, bounds = vectors.flatten(1), radii[:, None]
    sizes = flat.abs()
    largest = sizes.sort(1, descending=True).values
    excess = cumulative_sum(largest) - bounds
    counts = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    spread = (counts * largest > excess).sum(1, keepdim=True).clamp(min=1)  # numbers that stay other than 0
    shrunk = flat.sign() * (sizes - excess.gather(1, spread - 1) / spread).clamp(min=0)
    return torch.where(sizes.sum(1, keepdim=True) < bounds, flat, shrunk).view_as(vectors)
