"""Images cropped, mirrored, turned, resized and pooled by operations whose gradients are the same at every run.

On GPUs, torch's own gradients of grid sampling, of bilinear resizing and of adaptive pooling are sums in whatever order
threads come by.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core.numerics import at_least_fp32, full_precision

Size = tuple[int, int]
"""Height and width."""
Beyond = Literal["edge", "reflection"]
"""What lies outside an image: its edge, repeated, or its mirror image."""
PADDING = {"edge": "border", "reflection": "reflection"}
"""Torch's names of what lies outside."""
MATRICES = 4096
"""Matrices of one size to another that are kept: erasing resizes regions of any size."""


def resample(images: Tensor, maps: Tensor, *, turns: bool, beyond: Beyond = "edge") -> Tensor:
    """Look images up bilinearly at places given by affine maps, one for each image.

    Args:
        maps: from coordinates of the result to those of the image, where both reach from -1 to 1, as torch's
            `affine_grid` takes them.
        turns: False promises that every map only scales, mirrors and shifts, so that the look-up is a matrix product
            along rows and one along columns.

    Shape: images (B, C, H, W), maps (B, 2, 3), to float (B, C, H, W).
    """
    with full_precision(images.device):  # bfloat16 cannot hold places in an image
        images = at_least_fp32(images)
        maps = maps.to(images.dtype)
        if turns:
            return _looked_up(images, maps, beyond)
        assert beyond == "edge", beyond
        across = _look_up_matrices(maps[:, 0, 0], maps[:, 0, 2], images.shape[3])
        down = _look_up_matrices(maps[:, 1, 1], maps[:, 1, 2], images.shape[2])
        lines = torch.bmm(images.flatten(1, 2), across.mT).view_as(images)
        return down[:, None] @ lines


def resize(maps: Tensor, size: Size, *, antialias: bool = False) -> Tensor:
    """Resize maps bilinearly, as torch's `interpolate` does; with `antialias`, averaging where it scales down.

    Shape: (B, C, H, W) to (B, C, *size).
    """
    if maps.shape[2:] == size:
        return maps
    down, across = (_matrix("resize", *sides, antialias, maps) for sides in zip(maps.shape[2:], size, strict=True))
    return _on_both_sides(maps, down, across)


def average_pool(maps: Tensor, size: Size) -> Tensor:
    """Average maps over cells that cover them evenly, as torch's `adaptive_avg_pool2d` does.

    Shape: (B, C, H, W) to (B, C, *size).
    """
    height, width = maps.shape[2:]
    if size == (1, 1):
        return F.adaptive_avg_pool2d(maps, 1)  # a mean, which has no other order on GPUs
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(maps, (height // size[0], width // size[1]))
    down, across = (_matrix("pool", *sides, False, maps) for sides in zip(maps.shape[2:], size, strict=True))
    return _on_both_sides(maps, down, across)


class AveragePool(nn.AdaptiveAvgPool2d):
    """torch's layer, with gradients that are the same at every run."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C, *output_size)."""
        size = self.output_size if isinstance(self.output_size, tuple) else (self.output_size, self.output_size)
        height, width = (wanted or side for wanted, side in zip(size, input.shape[2:], strict=True))
        return average_pool(input, (height, width))


def replace_adaptive_pools(network: nn.Module) -> None:
    """Put `AveragePool` in the place of torch's layers that average to more than one pixel, in place."""
    for name, layer in list(network.named_modules()):
        if type(layer) is nn.AdaptiveAvgPool2d and layer.output_size not in (1, (1, 1)):
            network.set_submodule(name, AveragePool(layer.output_size))


def _look_up_matrices(scales: Tensor, shifts: Tensor, side: int) -> Tensor:
    """Bilinear weights of every pixel of a line for every pixel of the result. Shape: (B,), (B,) to (B, side, side)."""
    pixels = torch.arange(side, device=scales.device)
    places = _pixels_of(scales[:, None] * ((2 * pixels + 1) / side - 1) + shifts[:, None], side, "edge")
    return (1 - (places[:, :, None] - pixels).abs()).clamp(min=0)


def _pixels_of(coordinates: Tensor, side: int, beyond: Beyond) -> Tensor:
    """Places in pixels, from 0 to side - 1, of coordinates that reach from -1 to 1 inside the image."""
    places = ((coordinates + 1) * side - 1) / 2
    if beyond == "reflection":
        periods = (places + 0.5).abs() / side
        within = (periods - periods.floor()) * side
        places = torch.where(periods.floor() % 2 == 0, within, side - within) - 0.5
    return places.clamp(0, side - 1)


def _looked_up(images: Tensor, maps: Tensor, beyond: Beyond) -> Tensor:
    """Look images up at places that may be turned. On CPUs, where threads do not share an image, torch is faster."""
    if images.device.type == "cpu":
        return _grid_sample(images, maps, beyond)
    looked_up: Tensor = LookUp.apply(images, maps, beyond)
    return looked_up


def _grid_sample(images: Tensor, maps: Tensor, beyond: Beyond) -> Tensor:
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=PADDING[beyond], align_corners=False)


class LookUp(torch.autograd.Function):
    """torch's bilinear grid sampling; in its gradient, each pixel's parts are sorted before they are added.

    Shape: (B, C, H, W), (B, 2, 3) to (B, C, H, W). Gradients pass to images alone, any number of times.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, maps: Tensor, beyond: Beyond) -> Tensor:
        """Look the images up."""
        ctx.save_for_backward(maps)
        ctx.beyond = beyond
        return _grid_sample(images, maps, beyond)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None]:
        """Give each looked-up pixel's slope to the four pixels it was interpolated from."""
        (maps,) = ctx.saved_tensors
        batch, channels, height, width = slopes.shape
        grid = F.affine_grid(maps, list(slopes.shape), align_corners=False).flatten(1, 2)
        across, down = (_pixels_of(grid[:, :, axis], side, ctx.beyond) for axis, side in ((0, width), (1, height)))
        first = torch.arange(batch, device=slopes.device)[:, None] * (height * width)
        rows = slopes.permute(0, 2, 3, 1).reshape(-1, channels)
        places, parts = [], []
        for row, row_weight in _neighbours(down, height):
            for column, column_weight in _neighbours(across, width):
                places.append((first + row * width + column).flatten())
                parts.append(rows * (row_weight * column_weight).view(-1, 1))
        # Accumulating by `index_put` sorts by place and then adds in order; `index_add` and `scatter_add` do not.
        gradient = slopes.new_zeros(batch * height * width, channels)
        gradient = gradient.index_put((torch.cat(places),), torch.cat(parts), accumulate=True)
        return gradient.view(batch, height, width, channels).permute(0, 3, 1, 2), None, None


def _neighbours(places: Tensor, side: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pixels before and after places on a line, each with its bilinear weight."""
    before = places.floor()
    share = places - before
    index = before.long()
    return (index, 1 - share), ((index + 1).clamp(max=side - 1), share)


def _on_both_sides(maps: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Apply a matrix to all columns of maps and one to all rows, so that the product between them is the smaller."""
    with full_precision(maps.device):
        if down.shape[0] <= down.shape[1]:
            return (down @ maps) @ across.mT
        return down @ (maps @ across.mT)


def _matrix(purpose: Literal["resize", "pool"], side: int, size: int, antialias: bool, like: Tensor) -> Tensor:
    """The matrix that takes a line of `side` pixels to one of `size`. Shape: (size, side)."""
    return _kept_matrix(purpose, side, size, antialias, like.dtype, like.device)


@functools.lru_cache(maxsize=MATRICES)
def _kept_matrix(
    purpose: Literal["resize", "pool"], side: int, size: int, antialias: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # torch's own weights: what it makes of each pixel alone. Built on the CPU, whatever device is the default.
    lines = torch.eye(side, device="cpu")[None, None]
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        if purpose == "pool":
            matrix = F.adaptive_avg_pool2d(lines, (size, side))
        else:
            matrix = F.interpolate(lines, (size, side), mode="bilinear", antialias=antialias)
        return matrix[0, 0].to(device, dtype)
