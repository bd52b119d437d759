"""Every attack that takes lenses shows the target model nothing on its way down that has not passed them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.golden_networks import golden_networks, white_box
from tests.support.interruptions import context_at
from tests.support.lenses import CountingLens
from tests.support.short_attacks import prior_for, short_attacks
from workloads.inversion.attack import Attack
from workloads.observation.oracles import WhiteBoxOracle


class CountingOracle(WhiteBoxOracle):
    """Counts the images that the target model is shown with gradients, which a search descends on."""

    descended = 0

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.descended += len(images) if images.requires_grad else 0
        return super().features_and_logits(images)

    def logits_and_inputs(self, images: Tensor, layers: Any) -> tuple[Tensor, list[tuple[nn.Module, Tensor]]]:
        self.descended += len(images) if images.requires_grad else 0
        return super().logits_and_inputs(images, layers)


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
