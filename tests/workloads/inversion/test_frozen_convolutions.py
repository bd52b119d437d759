"""Convolutions whose gradient is a convolution have the gradients that torch finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.searches import SEARCHES, prior_of
from workloads.core.numerics import deterministic
from workloads.core.randomness import generator
from workloads.inversion.folded_networks import folded
from workloads.inversion.frozen_convolutions import FrozenConv2d, can_turn, convolved, with_frozen_convolutions

CAN_TURN: dict[str, dict[str, Any]] = {
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "without padding": {"kernel_size": 3},
    "1 x 1": {"kernel_size": 1},
    "5 x 5 without bias": {"kernel_size": 5, "padding": 2, "bias": False},
    "1 x 7": {"kernel_size": (1, 7), "padding": (0, 3)},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "even": {"kernel_size": 2, "padding": 1},
}
CANNOT_TURN: dict[str, dict[str, Any]] = {
    "stride 2": {"kernel_size": 3, "stride": 2},
    "groups": {"kernel_size": 3, "groups": 2},
    "padding by reflection": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "padding by name": {"kernel_size": 3, "padding": "same"},
    "larger maps than needed": {"kernel_size": 1, "padding": 1},
}


def layer_of(settings: dict[str, Any]) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(4, 6, **settings).double().requires_grad_(False)


def shown() -> Tensor:
    return torch.randn(2, 4, 9, 8, dtype=torch.double, generator=generator("test", "maps")).requires_grad_(True)


@pytest.mark.parametrize("settings", CAN_TURN.values(), ids=CAN_TURN)
def test_outputs_and_gradients_are_those_of_the_layer(settings: dict[str, Any]) -> None:
    layer, maps = layer_of(settings), shown()
    assert can_turn(layer)
    outputs, expected = convolved(maps, FrozenConv2d.of(layer)), layer(maps)
    assert torch.equal(outputs, expected) and torch.equal(FrozenConv2d.of(layer)(maps), expected)
    weights = torch.randn(outputs.shape, dtype=torch.double, generator=generator("test", "weights"))
    torch.testing.assert_close(
        torch.autograd.grad((outputs * weights).sum(), maps), torch.autograd.grad((expected * weights).sum(), maps)
    )


@pytest.mark.parametrize("settings", CANNOT_TURN.values(), ids=CANNOT_TURN)
def test_other_convolutions_stay(settings: dict[str, Any]) -> None:
    network = nn.Sequential(layer_of(settings), nn.ReLU())
    with_frozen_convolutions(network)
    assert type(network[0]) is nn.Conv2d


def test_convolutions_of_libraries_stay() -> None:
    class Other(nn.Conv2d):
        """Computes something else, for all that is known."""

    network = nn.Sequential(Other(4, 6, 3), nn.Sequential(nn.Conv2d(6, 2, 3)))
    with_frozen_convolutions(network)
    assert [type(layer) for layer in network.modules()][1:4] == [Other, nn.Sequential, FrozenConv2d]


@pytest.mark.parametrize("name", ["gmi", "kedmi", "plgmi", "lokt", "ppa"])
def test_every_prior_makes_the_same_images_with_them(name: str) -> None:
    """Some read the weights of their layers."""
    config = SEARCHES[name].prior
    assert config is not None
    prior, frozen = prior_of(config), prior_of(config)
    with_frozen_convolutions(frozen)
    latents, identities = torch.randn(2, prior.latent_size, generator=generator("test", "latents")), torch.arange(2)
    images = [network.synthesize(network.map(latents), identities) for network in (prior, frozen)]
    assert torch.equal(*images)
    assert torch.equal(prior.realism(images[0]), frozen.realism(images[0]))


def test_a_second_derivative_is_refused() -> None:
    layer, maps = layer_of({"kernel_size": 3}), shown()
    outputs = convolved(maps, FrozenConv2d.of(layer))
    (slope,) = torch.autograd.grad(outputs.square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_folded_network_on_a_gpu_has_the_same_gradients(precision: str) -> None:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.Flatten()]
    network = nn.Sequential(*layers).cuda().eval().requires_grad_(False)
    images = torch.rand(4, 3, 16, 16, device="cuda", requires_grad=True)
    with deterministic(torch.device("cuda")), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        faster = folded(network, lambda copy: copy(images))
        assert isinstance(faster[0], FrozenConv2d)
        slopes = [torch.autograd.grad(model(images).float().square().sum(), images)[0] for model in (network, faster)]
    rtol = 1e-4 if precision == "fp32" else 0.1
    torch.testing.assert_close(*slopes, rtol=rtol, atol=rtol * float(slopes[0].abs().max()))
