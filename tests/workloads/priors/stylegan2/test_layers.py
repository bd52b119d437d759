"""Layers of StyleGAN2 against convolutions written another way: grouped by torch, or sample by sample by scipy."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor
from torch.nn import functional as F

from workloads.core.errors import ShapeError
from workloads.core.randomness import generator
from workloads.priors.stylegan2.layers import (
    DrawnLayer,
    GroupDeviation,
    ScaledConv,
    ScaledLinear,
    StyledConv,
    ToColours,
    doubled,
    doubled_conv,
    draw_all,
    group_deviations,
    smoothed,
)

Layer = TypeVar("Layer", bound=DrawnLayer)

AXIS = np.array([1.0, 3.0, 3.0, 1.0]) / 8
FILTER = np.outer(AXIS, AXIS)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Equal but for rounding: in float64, sums of some hundred products of numbers about 1."""
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-11)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator("test", *shape), dtype=torch.float64)


def drawn(layer: Layer) -> Layer:
    """The layer in float64, all of its parameters normal, so that none is left out by being zero."""
    for name, parameter in layer.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator("test", name), dtype=torch.float64)
    return layer.double().requires_grad_(False)


def rectified(maps: Tensor) -> Tensor:
    return math.sqrt(2) * torch.where(maps > 0, maps, 0.2 * maps)


# Scaled weights


def test_a_scaled_layer_divides_its_weights_by_the_root_of_its_inputs() -> None:
    layer = drawn(ScaledLinear(4, 3))
    inputs = normal(2, 4)
    expected = inputs @ layer.weight.T / 2 + layer.bias  # the root of 4
    assert_same(layer(inputs), expected)


def test_the_rate_scales_weights_and_bias() -> None:
    layer = drawn(ScaledLinear(4, 3, rate=0.01, active=True))
    inputs = normal(2, 4)
    expected = rectified(inputs @ layer.weight.T * 0.005 + layer.bias * 0.01)
    assert_same(layer(inputs), expected)


def test_what_a_layer_begins_with_does_not_depend_on_its_rate() -> None:
    layers = [ScaledLinear(4, 3, rate=rate) for rate in (1.0, 0.01)]
    for layer in layers:
        draw_all(layer, generator("test", "layer"))
    first, slow = (layer(torch.ones(1, 4)) for layer in layers)
    torch.testing.assert_close(slow, first)


def test_drawn_weights_have_variance_one_and_a_bias_its_first_value() -> None:
    layer = ScaledLinear(300, 300, bias=1.0)
    draw_all(layer, generator("test", "variance"))
    assert layer.weight.var().item() == pytest.approx(1, abs=0.02)  # 4 deviations of a variance of 90,000 numbers
    assert (layer.bias == 1).all()


def test_a_scaled_convolution_divides_its_weights_by_the_root_of_all_that_it_sums() -> None:
    layer = drawn(ScaledConv(4, 3, 3))
    maps = normal(2, 4, 5, 5)
    expected = rectified(F.conv2d(maps, layer.weight / 6, layer.bias, padding=1))  # the root of 4 x 9
    assert_same(layer(maps), expected)


def test_a_clamp_bounds_what_a_convolution_puts_out() -> None:
    free, bound = (drawn(ScaledConv(4, 3, 3, clamp=clamp)) for clamp in (None, 0.5))
    maps = normal(2, 4, 5, 5)
    assert_same(bound(maps), free(maps).clamp(-0.5, 0.5))


# Sizes, against scipy. Zeros are put after every sample, and filters are convolved in full before a part is taken.


def test_images_are_doubled_as_by_zeros_between_and_the_filter() -> None:
    images = normal(2, 3, 5, 5)
    along = signal.upfirdn(2 * AXIS, signal.upfirdn(2 * AXIS, images.numpy(), up=2, axis=2), up=2, axis=3)
    assert_same(doubled(images), torch.from_numpy(along[:, :, 1:-1, 1:-1].copy()))


def test_a_constant_image_stays_constant_inside_when_it_is_doubled() -> None:
    torch.testing.assert_close(doubled(torch.ones(1, 1, 6, 6))[..., 1:-1, 1:-1], torch.ones(1, 1, 10, 10))


def test_a_doubling_convolution_is_zeros_between_the_filter_and_a_true_convolution() -> None:
    maps, weight = normal(1, 2, 4, 4), normal(3, 2, 3, 3)
    spread = np.zeros((2, 8, 8))
    spread[:, ::2, ::2] = maps[0].numpy()
    expected = np.zeros((3, 8, 8))
    for output, filters in enumerate(weight.numpy()):
        for plane, kernel in zip(spread, filters, strict=True):
            smooth = signal.convolve2d(plane, 4 * FILTER)
            expected[output] += signal.convolve2d(smooth, kernel)[2:10, 2:10]
    assert_same(doubled_conv(maps, weight)[0], torch.from_numpy(expected))


def test_a_halving_convolution_smooths_before_it_leaves_samples_out() -> None:
    layer = drawn(ScaledConv(2, 3, 3, halve=True, active=False))
    maps = normal(1, 2, 8, 8)
    expected = np.zeros((3, 4, 4))
    for output, filters in enumerate(layer.weight.numpy() / math.sqrt(18)):
        for plane, kernel in zip(maps[0].numpy(), filters, strict=True):
            smooth = signal.convolve2d(plane, FILTER)[1:10, 1:10]
            expected[output] += signal.correlate2d(smooth, kernel, mode="valid")[::2, ::2]
    assert_same(layer(maps)[0], torch.from_numpy(expected))


def test_a_halving_convolution_of_single_pixels_is_the_smoothed_map_halved() -> None:
    layer = drawn(ScaledConv(2, 3, 1, halve=True, active=False))
    maps = normal(1, 2, 8, 8)
    smooth = np.stack([signal.convolve2d(plane, FILTER)[2:9:2, 2:9:2] for plane in maps[0].numpy()])
    expected = np.einsum("oi,ihw->ohw", layer.weight[:, :, 0, 0].numpy() / math.sqrt(2), smooth)
    assert_same(layer(maps)[0], torch.from_numpy(expected))


def test_smoothing_takes_a_pixel_beyond_each_edge_as_zero() -> None:
    corner = smoothed(torch.ones(1, 1, 3, 3), padding=1)[0, 0, 0, 0]
    assert corner.item() == pytest.approx((7 / 8) ** 2)  # 3 + 3 + 1 of 8 along each axis


# Styles


def grouped(layer: StyledConv, maps: Tensor, style: Tensor) -> Tensor:
    """A styled convolution with a weight of its own for each image, all in one convolution of as many groups."""
    scales = style @ layer.affine.weight.T / math.sqrt(style.shape[1]) + layer.affine.bias
    weights = layer.weight[None] * scales[:, None, :, None, None]
    weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if layer._double:
        spread = torch.zeros(*maps.shape[:2], 2 * maps.shape[2], 2 * maps.shape[3], dtype=maps.dtype)
        spread[:, :, ::2, ::2] = maps
        smooth = torch.from_numpy(4 * FILTER).expand(maps.shape[1], 1, 4, 4)
        maps = F.conv2d(F.pad(spread, (3, 2, 3, 2)), smooth, groups=maps.shape[1])
        weights, padding = weights.flip((3, 4)), 0
    else:
        padding = 1
    together = F.conv2d(maps.flatten(0, 1)[None], weights.flatten(0, 1), padding=padding, groups=len(maps))
    outputs = together.view(len(maps), -1, *together.shape[2:])
    return rectified(outputs + layer.noise * layer.noise_strength + layer.bias[:, None, None])


@pytest.mark.parametrize("double", [False, True])
def test_scaling_maps_gives_what_weights_of_every_image_give(double: bool) -> None:
    layer = StyledConv(4, 3, style_size=5, size=12 if double else 6, double=double, clamp=None)
    draw_all(layer, generator("test", "noise"))
    drawn(layer)
    maps, style = normal(3, 4, 6, 6), normal(3, 5)
    assert_same(layer(maps, style, None), grouped(layer, maps, style))


def test_the_gradient_of_the_style_is_that_of_the_grouped_form() -> None:
    layer = drawn(StyledConv(4, 3, style_size=5, size=6, double=False, clamp=None))
    maps, style = normal(3, 4, 6, 6), normal(3, 5).requires_grad_(True)
    slopes = [
        torch.autograd.grad(outputs.square().sum(), style)[0]
        for outputs in (layer(maps, style, None), grouped(layer, maps, style))
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-10)


def test_an_image_does_not_depend_on_its_batch() -> None:
    layer = drawn(StyledConv(4, 3, style_size=5, size=6, double=False, clamp=None))
    maps, style = normal(3, 4, 6, 6), normal(3, 5)
    assert_same(layer(maps[1:2], style[1:2], None), layer(maps, style, None)[1:2])


def test_fresh_noise_differs_between_images_and_is_scaled_by_its_strength() -> None:
    layer = drawn(StyledConv(2, 1, style_size=3, size=4, double=False, clamp=None))
    layer.bias.fill_(100.0)  # far from the rectifier's bend
    layer.noise.zero_()
    maps, style = torch.zeros(2, 2, 4, 4, dtype=torch.float64), normal(2, 3)
    noise = torch.randn(2, 1, 4, 4, generator=generator("test", "fresh"))
    expected = math.sqrt(2) * (100 + layer.noise_strength * noise.double())
    assert_same(layer(maps, style, generator("test", "fresh")), expected)


def test_colours_are_a_scaled_sum_that_is_not_normalised() -> None:
    layer = drawn(ToColours(4, 3, style_size=5, clamp=None))
    maps, style = normal(2, 4, 6, 6), normal(2, 5)
    scales = (style @ layer.affine.weight.T / math.sqrt(5) + layer.affine.bias) / 2  # the root of 4
    expected = torch.einsum("oi,bi,bihw->bohw", layer.weight[:, :, 0, 0], scales, maps) + layer.bias[:, None, None]
    assert_same(layer(maps, style), expected)


def test_layers_run_in_half_precision_where_an_attack_asks_for_it() -> None:
    layer = StyledConv(4, 3, style_size=5, size=6, double=False, clamp=256.0)
    draw_all(layer, generator("test", "half"))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 4, 6, 6), torch.ones(2, 5), None).isfinite().all()


# Deviation within groups


def test_the_deviation_of_a_group_is_over_images_a_quarter_of_the_batch_apart() -> None:
    maps = torch.arange(8.0)[:, None, None, None].expand(-1, 2, 3, 3)
    # Groups 0, 2, 4, 6 and 1, 3, 5, 7: both deviate by the root of (9 + 1 + 1 + 9) / 4.
    torch.testing.assert_close(group_deviations(maps), torch.full((8,), math.sqrt(5)))


def test_the_deviations_of_two_groups_are_told_apart() -> None:
    maps = torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 2.0])[:, None, None, None]
    expected = torch.tensor([1e-4, 1.0]).repeat(4)  # of no difference: the root of what keeps its gradient finite
    torch.testing.assert_close(group_deviations(maps), expected, rtol=1e-6, atol=1e-8)


def test_fewer_than_four_images_are_one_group() -> None:
    maps = torch.tensor([0.0, 2.0])[:, None, None, None]
    torch.testing.assert_close(group_deviations(maps), torch.ones(2))


def test_groups_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(ShapeError, match="6 images make no groups of 4: take a multiple of 4"):
        group_deviations(torch.zeros(6, 1, 1, 1))


def test_in_use_the_map_says_how_much_images_usually_differ() -> None:
    layer = GroupDeviation()
    maps = torch.tensor([0.0, 2.0])[:, None, None, None]
    layer(maps)
    layer(maps)
    alone = layer.eval()(maps[:1])
    assert alone[0, 1].item() == pytest.approx(0.01 + 0.99 * 0.01)  # twice a hundredth of the way to 1
