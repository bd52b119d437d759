"""Cumulative sums of floating point numbers that are the same at every run, on GPUs too."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

BLOCK = 128
"""Numbers that one product with a triangular matrix adds up."""


def cumulative_sum(values: Tensor) -> Tensor:
    """Sums of the first numbers of each row, as torch's `cumsum` along the last dimension.

    On GPUs torch's own adds in whatever order threads come by, or, asked for a deterministic form, takes memory by the
    square of a row's length (torch 2.11). On CPUs it does neither.

    Shape: (..., N) float, kept.
    """
    return values.cumsum(-1) if values.device.type == "cpu" else by_blocks(values)


def by_blocks(values: Tensor) -> Tensor:
    """Cumulative sums by products with triangular matrices, in double precision: within blocks, then of their sums.

    Shape: (..., N) float, kept.
    """
    length = values.shape[-1]
    return _by_blocks(values.double())[..., :length].to(values.dtype)


def _by_blocks(values: Tensor) -> Tensor:
    """Shape: (..., N) float64 to (..., M), where M is the next multiple of the block's size."""
    blocks = F.pad(values, (0, -values.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    within = blocks @ blocks.new_ones(BLOCK, BLOCK).triu()
    if blocks.shape[-2] > 1:
        until = _by_blocks(within[..., -1])[..., : blocks.shape[-2]]
        within = within + F.pad(until, (1, -1))[..., None]  # what all blocks before add up to
    return within.flatten(-2)
