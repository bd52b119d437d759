"""What the steps of a prior's fit pass between host and device: nothing, once it has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.device_traffic import DEVICE, DeviceTraffic, traffic_counted
from tests.support.interruptions import context_at
from workloads.metrics.random_features import sample_quality
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

CLASSES, SIZE, BATCH = 3, 32, 4
PUBLIC = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, SIZE, SIZE).contiguous()
COMMON = {"batch_size": BATCH, "critic_steps": 2, "latent_size": 4}
SMALL: dict[str, dict[str, Any]] = {
    "wgan_gp": {"width": 2, "ema": 0.9},
    "ked_gan": {"width": 2},
    "plg_gan": {"width": 2, "images_per_class": 2},
    "tacgan": {"width": 2, "warm_up": 0.0},
    "stylegan2": {"channel_base": 64, "style_size": 4, "r1_every": 1, "path_length_every": 1, "mapping_layers": 1},
}
"""Settings of each kind that keep it small and leave nothing out of its steps; others are taken at their defaults."""


def traffic_of_updates(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> DeviceTraffic:
    """What passes while critic and generator are updated, from the third step on: the first ones set up."""
    config = PRIORS.config_of(kind).model_validate({**COMMON, "steps": 4, **SMALL.get(kind, {}), **settings})
    prior = PRIORS.build(config, channels=3, image_size=SIZE, classes=CLASSES)
    target = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=CLASSES, channels=3, image_size=SIZE).build()
    during = DeviceTraffic()
    update = AdversarialPrior._update

    def watched(self: AdversarialPrior[Any], step: int, *arguments: Any) -> Any:
        traffic.clear()
        scalars = update(self, step, *arguments)
        if step >= 2:
            during.add(traffic)
        return scalars

    monkeypatch.setattr(AdversarialPrior, "_update", watched)
    context = context_at(folder)
    context.device = DEVICE
    oracle = WhiteBoxOracle(target.to(DEVICE).eval().requires_grad_(False))
    with traffic_counted() as traffic:
        prior.fit(PUBLIC, target=oracle, context=context)
    return during


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_the_steps_of_a_fit_neither_read_nor_copy_nor_make_generators(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert traffic_of_updates(kind, tmp_path, monkeypatch) == DeviceTraffic()


def test_neither_do_those_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert traffic_of_updates("stylegan2", tmp_path, monkeypatch, precision="bf16") == DeviceTraffic()


def test_the_quality_of_samples_is_computed_on_the_device_and_its_features_read_once_for_each_set() -> None:
    samples = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with traffic_counted() as traffic:
        sample_quality(samples, PUBLIC, device=DEVICE)
    assert len(traffic.reads) == 2 and all("training/prediction.py" in read for read in traffic.reads)
