"""Folded networks compute what they were."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from workloads.core.randomness import generator
from workloads.inversion.folded_networks import folded
from workloads.models.base import Classifier
from workloads.models.resnet import ResnetConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.priors.wgan_gp import WganGp, WganGpConfig
from workloads.training.classifiers import Architecture

MODELS = {"small_cnn": SmallCnnConfig(width=8), "vgg16_bn": Vgg16BnConfig(), "resnet": ResnetConfig(depth=18)}


def shake(network: nn.Module) -> None:
    """Give every batch norm statistics of its own, as training does."""
    draws = generator("test", "statistics")
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(generator=draws)
            layer.running_var.uniform_(0.5, 2, generator=draws)


@functools.cache
def model_of(kind: str) -> Classifier:
    model = Architecture(model=MODELS[kind], classes=5, channels=3, image_size=32).build(seed=1)
    model.draw_weights(generator("test", "weights"))
    shake(model)
    return model.eval().requires_grad_(False)


@functools.cache
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=generator("test", "images"))


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())


@pytest.mark.parametrize("kind", MODELS)
def test_a_folded_model_gives_the_same_logits(kind: str) -> None:
    faster = folded(model_of(kind), lambda model: model(images()))
    expected = model_of(kind)(images())
    torch.testing.assert_close(faster(images()), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_of_an_image_stays_what_it_was(kind: str) -> None:
    faster = folded(model_of(kind), lambda model: model(images()))
    assert torch.cosine_similarity(slope(model_of(kind)), slope(faster), dim=0) > 0.9999


def slope(model: Classifier) -> Tensor:
    """Gradient of the first logit with respect to all pixels, as one vector."""
    shown = images().clone().requires_grad_(True)
    return torch.autograd.grad(model(shown)[:, 0].sum(), shown)[0].flatten()


@pytest.mark.parametrize(("kind", "left"), [("small_cnn", 0), ("vgg16_bn", 1), ("resnet", 0)])
def test_norms_right_after_a_layer_are_gone(kind: str, left: int) -> None:
    """The last norm of VGG follows a flattening and has no layer to go into."""
    assert norms(folded(model_of(kind), lambda model: model(images()))) == left


@pytest.mark.parametrize("kind", MODELS)
def test_a_folded_model_is_frozen_in_eval_mode_and_channels_last(kind: str) -> None:
    faster = folded(model_of(kind), lambda model: model(images()))
    assert not faster.training
    assert not any(weight.requires_grad for weight in faster.parameters())
    maps = [weight for weight in faster.parameters() if weight.ndim == 4]
    assert maps and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)


def test_the_original_stays_as_it_was() -> None:
    before = norms(model_of("resnet"))
    folded(model_of("resnet"), lambda model: model(images()))
    assert norms(model_of("resnet")) == before > 0


def test_a_folded_generator_gives_the_same_images() -> None:
    prior = WganGp(WganGpConfig(width=4, latent_size=8), channels=3, image_size=32, classes=1)
    shake(prior)
    prior.eval().requires_grad_(False)
    latents = torch.randn(4, 8, generator=generator("test", "latents"))
    faster = folded(prior, lambda network: network.synthesize(latents))
    assert norms(faster.generator) == 0
    torch.testing.assert_close(faster.synthesize(latents), prior.synthesize(latents), rtol=1e-4, atol=1e-5)


class ReadTwice(nn.Module):
    """A layer whose output goes on beside its norm: folding it would change the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.layer(rows)
        return hidden + self.norm(hidden)


def test_a_network_that_folding_would_change_is_left_as_it_is() -> None:
    network = ReadTwice()
    shake(network)
    network.eval().requires_grad_(False)
    rows = torch.randn(5, 3, generator=generator("test", "rows"))
    assert torch.equal(folded(network, lambda original: original(rows))(rows), network(rows))
