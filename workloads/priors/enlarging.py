"""A convolution of bilinearly enlarged maps, with less arithmetic than enlarging and then convolving."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def enlarged_convolution(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    """Double the maps' side by bilinear interpolation, then apply a 3 x 3 convolution with padding 1.

    Interpolation treats all channels alike, so the filter's nine matrices may be applied before it, to a quarter of the
    pixels. Interpolating, shifting and summing over the filter's rows, and then over its columns, is one small matrix
    each.

    Shape: (B, C, H, W) to (B, D, 2H, 2W), laid out channels last.
    """
    assert layer.bias is not None
    batch, _, height, width = maps.shape
    pixels = maps.permute(0, 2, 3, 1)
    matrices = layer.weight.permute(2, 1, 3, 0).flatten(2)  # of each row of the filter, its columns side by side
    down = _doubling(height, maps)
    rows = [down[row] @ (pixels @ matrices[row]).reshape(batch, height, -1) for row in range(3)]
    lines = functools.reduce(torch.add, rows)  # (B, 2H, W * 3 * D)
    across = _doubling(width, maps).permute(1, 2, 0).flatten(1)  # (2W, W * 3)
    enlarged = across @ lines.view(batch, 2 * height, width * 3, -1) + layer.bias
    return enlarged.permute(0, 3, 1, 2)


def _doubling(size: int, like: Tensor) -> Tensor:
    """For each of a filter's three places, the matrix that enlarges a line and shifts it there.

    Shape: to (3, 2 * size, size).
    """
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    longer = F.interpolate(units[None], scale_factor=2, mode="linear")[0]
    return F.pad(longer, (1, 1)).unfold(1, 2 * size, 1).permute(1, 2, 0)
