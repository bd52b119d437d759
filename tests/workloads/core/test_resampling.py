"""Cropping, turning, resizing and pooling against torch's own operations, values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.core import resampling
from workloads.core.randomness import generator
from workloads.core.resampling import (
    AveragePool,
    Beyond,
    LookUp,
    average_pool,
    replace_adaptive_pools,
    resample,
    resize,
)

SIZES = [(8, 8), (7, 7), (5, 9), (16, 3), (1, 4)]
PAIRS = [
    ((8, 8), (16, 16)),
    ((7, 7), (14, 14)),
    ((9, 5), (4, 11)),
    ((6, 6), (7, 7)),
    ((2, 2), (7, 7)),
    ((1, 1), (3, 2)),
]
PAIRS += [((64, 64), (7, 7)), ((5, 5), (5, 5)), ((3, 3), (1, 1)), ((12, 10), (3, 5))]


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator("test", "images"))


def agree(ours: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], shown: Tensor) -> None:
    """Same values, and same gradients of a random projection."""
    values, slopes = zip(*(_with_gradient(function, shown) for function in (ours, reference)), strict=True)
    torch.testing.assert_close(*values, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)


def _with_gradient(function: Callable[[Tensor], Tensor], shown: Tensor) -> tuple[Tensor, Tensor]:
    leaf = shown.clone().requires_grad_(True)
    values = function(leaf)
    weights = torch.randn(values.shape, generator=generator("test", "weights"))
    (slope,) = torch.autograd.grad((values * weights).sum(), leaf)
    return values.detach(), slope


def maps(count: int, *, angle: float, reach: float = 0.5) -> Tensor:
    """Random scales, mirrorings, shifts and turns up to an angle; some reach beyond the image."""
    draws = generator("test", "maps")
    turn = angle * (2 * torch.rand(count, generator=draws) - 1)
    scale = 0.3 + torch.rand(2, count, generator=draws)
    mirror = 1 - 2 * (torch.rand(count, generator=draws) < 0.5).float()
    across = torch.stack((mirror * turn.cos(), -turn.sin()), 1) * scale[0, :, None]
    down = torch.stack((mirror * turn.sin(), turn.cos()), 1) * scale[1, :, None]
    shift = reach * (2 * torch.rand(count, 2, generator=draws) - 1)
    return torch.cat((torch.stack((across, down), 1), shift[:, :, None]), 2)


def grid_sampled(shown: Tensor, affine: Tensor, beyond: Beyond) -> Tensor:
    grid = F.affine_grid(affine, list(shown.shape), align_corners=False)
    return F.grid_sample(shown, grid, padding_mode=resampling.PADDING[beyond], align_corners=False)


@pytest.mark.parametrize("size", SIZES)
def test_crops_and_mirrorings_are_torchs_grid_sampling(size: tuple[int, int]) -> None:
    affine = maps(12, angle=0.0)
    agree(
        lambda shown: resample(shown, affine, turns=False),
        lambda shown: grid_sampled(shown, affine, "edge"),
        images(12, 3, *size),
    )


@pytest.mark.parametrize("beyond", ["edge", "reflection"])
@pytest.mark.parametrize("size", SIZES)
def test_turns_are_torchs_grid_sampling_in_the_form_for_gpus_too(size: tuple[int, int], beyond: Beyond) -> None:
    affine = maps(12, angle=math.pi, reach=2.0)
    agree(
        lambda shown: LookUp.apply(shown, affine, beyond),
        lambda shown: grid_sampled(shown, affine, beyond),
        images(12, 3, *size),
    )


def test_turns_on_cpus_are_torchs_bit_for_bit() -> None:
    affine, shown = maps(4, angle=1.0), images(4, 3, 9, 9)
    assert torch.equal(resample(shown, affine, turns=True), grid_sampled(shown, affine, "edge"))


def test_the_gradient_of_a_turn_can_be_differentiated_again() -> None:
    affine = maps(2, angle=1.0).double()
    shown = images(2, 1, 4, 5).double().requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda leaf: LookUp.apply(leaf, affine, "edge").square(), (shown,))


def test_an_image_is_resampled_alike_in_any_batch() -> None:
    affine, shown = maps(6, angle=0.0), images(6, 3, 9, 9)
    together = resample(shown, affine, turns=False)
    torch.testing.assert_close(resample(shown[4:5], affine[4:5], turns=False), together[4:5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("size", "new"), PAIRS)
def test_resizing_is_torchs_interpolation(size: tuple[int, int], new: tuple[int, int], antialias: bool) -> None:
    agree(
        lambda shown: resize(shown, new, antialias=antialias),
        lambda shown: F.interpolate(shown, new, mode="bilinear", antialias=antialias),
        images(3, 2, *size),
    )


@pytest.mark.parametrize(("size", "new"), PAIRS)
def test_pooling_is_torchs_adaptive_pooling(size: tuple[int, int], new: tuple[int, int]) -> None:
    agree(lambda shown: average_pool(shown, new), lambda shown: F.adaptive_avg_pool2d(shown, new), images(3, 2, *size))


def test_matrices_do_not_depend_on_where_they_were_needed_first() -> None:
    resampling._kept_matrix.cache_clear()
    with torch.device("meta"):
        assert resize(torch.empty(1, 1, 5, 5), (7, 7)).device.type == "meta"
    with torch.inference_mode():
        resize(images(1, 1, 6, 6), (8, 8))
    agree(
        lambda shown: resize(shown, (8, 8)),
        lambda shown: F.interpolate(shown, (8, 8), mode="bilinear"),
        images(1, 1, 6, 6),
    )


def test_images_are_looked_up_in_full_precision_where_networks_are_not() -> None:
    affine, shown = maps(3, angle=0.0), images(3, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample(shown, affine, turns=False), resample(shown.clone(), affine, turns=False))
        assert resample(shown.bfloat16(), affine, turns=False).dtype == torch.float32
        assert resize(shown, (4, 4)).dtype == torch.float32
    expected = grid_sampled(shown, affine, "edge")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(resample(shown, affine, turns=False), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("size", [2, (3, 2), (None, 4)])
def test_a_layer_pools_as_torchs_does_and_takes_its_place(size: int | tuple[int | None, int]) -> None:
    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(size)))
    shown = images(2, 3, 7, 9)
    expected = network(shown)
    replace_adaptive_pools(network)
    assert [type(layer) for layer in network.modules()][-1] is AveragePool
    torch.testing.assert_close(network(shown), expected)
