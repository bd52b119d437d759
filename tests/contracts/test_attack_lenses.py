"""Every attack that takes lenses shows the target model nothing on its way down that has not passed them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.components import config_for
from tests.support.golden_networks import IDENTITIES, golden_networks, white_box
from tests.support.interruptions import context_at
from tests.support.lenses import CountingLens
from tests.support.staged_networks import TinyStaged
from workloads.attacks.lomma import GmiHost
from workloads.core.errors import ConfigError
from workloads.inversion.attack import ATTACKS, Attack
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior

SMALL: dict[str, Any] = {
    **{"restarts": 1, "keep": 1, "steps": 2, "pool": 8, "draws": 1, "samples": 2, "images": 2, "selection_views": 1},
    **{"stage_steps": (1, 1), "blocks": 2, "hidden": 4, "warmup": 1, "public_statistics": 2, "distillation": None},
    "host": GmiHost(restarts=1, steps=2),
}
"""Settings that make an attack short, whatever attack has them."""


class CountingOracle(WhiteBoxOracle):
    """Counts the images that the target model is shown with gradients, which a search descends on."""

    descended = 0

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.descended += len(images) if images.requires_grad else 0
        return super().features_and_logits(images)

    def logits_and_inputs(self, images: Tensor, layers: Any) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
        self.descended += len(images) if images.requires_grad else 0
        return super().logits_and_inputs(images, layers)


def short_attacks() -> list[Attack[Any]]:
    """Every attack that takes lenses and descends on the target model itself, at settings that make it short."""
    attacks = []
    for kind in ATTACKS.kinds():
        if ATTACKS.class_of(config_for(ATTACKS, kind)).takes_lenses:
            cls = ATTACKS.config_of(kind)
            settings = {name: value for name, value in SMALL.items() if name in cls.model_fields}
            attacks.append(ATTACKS.build(cls(**settings)))
    return [attack for attack in attacks if issubclass(attack.oracle_type, WhiteBoxOracle)]


def prior_for(attack: Attack[Any]) -> Prior:
    """The first of the tiny priors that the attack accepts."""
    networks = golden_networks(torch.float32)
    for prior in (networks.prior(), networks.conditional_prior(), TinyStaged(networks.style)):
        try:
            attack.check(prior=prior, classes=IDENTITIES)
        except ConfigError:
            continue
        return prior
    raise AssertionError(f"no tiny prior suits {attack.config.kind}")


@pytest.mark.parametrize("attack", short_attacks(), ids=lambda attack: attack.config.kind)
def test_a_search_shows_the_target_nothing_that_did_not_pass_the_lens(tmp_path: Path, attack: Attack[Any]) -> None:
    networks, lens = golden_networks(torch.float32), CountingLens()
    target: Any = networks.target
    oracle = CountingOracle(target)
    public = torch.full((4, 3, 8, 8), 51, dtype=torch.uint8)
    access = white_box(networks, image_size=8, public_images=public, lenses=(lens,))
    access = replace(access, target=oracle, prior=prior_for(attack))
    attack.run(access, torch.arange(2), context=context_at(tmp_path))
    assert lens.passed == oracle.descended > 0
