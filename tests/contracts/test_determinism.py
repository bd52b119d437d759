"""Nothing that models, priors and attacks compute with gradients lacks a deterministic form on GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.components import config_for
from tests.support.device_traffic import DEVICE, traffic_counted
from tests.support.gpu_kernels import DeterministicOnGpus, NotDeterministicOnGpus
from tests.support.interruptions import context_at
from tests.support.searches import CLASSES, SEARCHES, access_of
from tests.support.tiny_networks import use_tiny_bodies
from tests.support.training_steps import public_classifier, step
from workloads.core import resampling
from workloads.core.numerics import deterministic
from workloads.core.randomness import generator
from workloads.core.resampling import LookUp
from workloads.defenses.base import DEFENSES
from workloads.defenses.random_erasing import RandomErasingConfig, painter
from workloads.models.base import MODELS, Classifier, ModelConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.observation.losses import LOSSES
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

SIZES = {"facenet112": 112, "facenet64": 64, "facenet160": 160, "ir152": 64, "maxvit_t": 224, "resnest": 64}
SIZES |= {"inception_2015": 299, "inception_v3": 299}
"""Side of the images that a model reads, where it is not 32."""
BODIES = [config_for(MODELS, kind) for kind in MODELS.kinds()]
BODIES += [TorchvisionConfig(name="vgg11_bn"), TorchvisionConfig(name="alexnet")]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns take the form that they have on GPUs."""
    monkeypatch.setattr(resampling, "_looked_up", LookUp.apply)


def test_the_lens_finds_torchs_own_operations() -> None:
    shown = torch.rand(1, 1, 4, 4, requires_grad=True)
    larger = F.interpolate(shown, (6, 6), mode="bilinear")
    with DeterministicOnGpus(), pytest.raises(NotDeterministicOnGpus, match="upsample_bilinear2d_backward"):
        larger.sum().backward()
    with DeterministicOnGpus(), pytest.raises(NotDeterministicOnGpus, match="cumsum"):
        shown.detach().cumsum(1)
    with DeterministicOnGpus():
        shown.detach().long().cumsum(1)


@pytest.mark.parametrize("config", BODIES, ids=lambda config: config.label)
def test_a_model_has_gradients_that_are_the_same_at_every_run(config: ModelConfig) -> None:
    size = 64 if isinstance(config, TorchvisionConfig) else SIZES.get(config.kind, 32)
    config = config.model_copy(update={"input_size": size})
    with torch.device("meta"):
        model: Classifier = Architecture(model=config, classes=3, channels=3, image_size=size + 3).build().train()
    shown = torch.empty(2, 3, size + 3, size + 3, device="meta", requires_grad=True)
    with DeterministicOnGpus():
        losses = [logits.log_softmax(1)[:, 0].sum() for logits in model.training_logits(model.normalize(shown))]
        torch.stack(losses).sum().backward()
    assert shown.grad is not None


TINY: dict[str, Any] = {
    **{"width": 2, "steps": 2, "batch_size": 4, "critic_steps": 1, "latent_size": 8, "images_per_class": 2},
    **{"style_size": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 4, "resolution": 16},
    **{"r1_every": 1, "path_length_every": 1, "augmentation_images": 4},
}
"""Settings that make a fit short, whatever prior has them."""


def fitted(kind: str, folder: Path, **settings: Any) -> AdversarialPrior[Any]:
    """A prior of this kind, fitted for two steps as a job does it."""
    cls = PRIORS.config_of(kind)
    required = {name: value for name, value in config_for(PRIORS, kind) if cls.model_fields[name].is_required()}
    if "extractor" in required:
        pytest.skip("its extractor is a file")
    tiny = {name: value for name, value in TINY.items() if name in cls.model_fields}
    prior = PRIORS.build(cls(**tiny, **settings), channels=3, image_size=32, classes=3)
    assert isinstance(prior, AdversarialPrior)
    target = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=3, channels=3, image_size=32).build()
    target.draw_weights(generator("test", "target"))
    oracle = WhiteBoxOracle(target.eval().requires_grad_(False))
    public = torch.randint(256, (12, 3, 32, 32), generator=generator("test", "public"), dtype=torch.uint8)
    with deterministic():
        prior.fit(public, target=oracle if prior.target_access else None, context=context_at(folder))
    return prior


@pytest.mark.parametrize("kind", DEFENSES.kinds())
def test_a_defense_trains_by_gradients_that_are_the_same_at_every_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_bodies(monkeypatch)
    inputs = public_classifier(tmp_path, "resnest") if kind == "tl_dmi" else {}
    with DeterministicOnGpus():
        step(tmp_path, (config_for(DEFENSES, kind),), "resnest", ("fp32", False), inputs)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_prior_is_fitted_by_gradients_that_are_the_same_at_every_run(kind: str, tmp_path: Path) -> None:
    with DeterministicOnGpus():
        fitted(kind, tmp_path)


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_prior_fitted_in_half_precision_keeps_its_weights_in_full(kind: str, tmp_path: Path) -> None:
    single, half = (fitted(kind, tmp_path / precision, precision=precision) for precision in ("fp32", "bf16"))
    floats: dict[str, Tensor] = {name: value for name, value in half.state_dict().items() if value.is_floating_point()}
    assert {value.dtype for value in floats.values()} == {torch.float32}
    assert all(bool(value.isfinite().all()) for value in floats.values())
    assert any(not torch.equal(value, single.state_dict()[name]) for name, value in floats.items())


@pytest.mark.parametrize("name", SEARCHES)
def test_an_attack_is_computed_by_operations_that_are_the_same_at_every_run(tmp_path: Path, name: str) -> None:
    """On tensors without numbers, which take the form that they have on GPUs."""
    search, context = SEARCHES[name], context_at(tmp_path)
    context.device = DEVICE
    with deterministic(), traffic_counted(), DeterministicOnGpus():
        search.attack.run(access_of(search, DEVICE), torch.arange(CLASSES), context=context)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_gradients_that_are_the_same_at_every_run(name: str) -> None:
    logits = torch.rand(3, 4, requires_grad=True)
    with DeterministicOnGpus():
        LOSSES[name](logits, torch.arange(3)).sum().backward()


def test_an_attacker_looks_through_blurred_boxes_by_gradients_that_are_the_same_at_every_run() -> None:
    shown = torch.rand(1, 3, 9, 9, requires_grad=True)
    draws = generator("test", "blur")
    paint = painter(RandomErasingConfig(fill="blur"), shown, mean=torch.zeros(3), generator=draws)
    with DeterministicOnGpus():
        paint(shown[0, :, 1:7, 2:9], 0, 0).sum().backward()
