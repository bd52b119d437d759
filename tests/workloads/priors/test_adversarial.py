"""The average of a generator's weights over a fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.support.interruptions import Interrupted, context_at
from workloads.core.config import content
from workloads.core.randomness import generator
from workloads.priors.base import PRIORS
from workloads.priors.stylegan2.prior import StyleGan2Config
from workloads.priors.wgan_gp import WganGp, WganGpConfig

IMAGES = torch.randint(256, (30, 1, 32, 32), dtype=torch.uint8, generator=generator("test", "images"))


def fitted(folder: Path, *, ema: float | None, steps: int, stop_after: int | None = None) -> dict[str, Tensor]:
    """Weights after a fit whose generator moves at every second step."""
    config = WganGpConfig(width=2, latent_size=8, batch_size=4, critic_steps=2, steps=steps, ema=ema)
    prior = PRIORS.build(config, channels=1, image_size=32, classes=1)
    assert isinstance(prior, WganGp)
    prior.fit(IMAGES, context=context_at(folder, stop_after=stop_after))
    return {name: tensor.detach().clone() for name, tensor in prior.state_dict().items()}


def test_an_average_begins_with_the_first_update_and_then_follows_by_its_decay(tmp_path: Path) -> None:
    """Fits of 2, 4 and 6 steps end with the first, second and third update."""
    updates = [fitted(tmp_path / str(steps), ema=None, steps=steps) for steps in (2, 4, 6)]
    averaged = fitted(tmp_path / "averaged", ema=0.75, steps=6)
    weights = [
        name for name, tensor in averaged.items() if tensor.is_floating_point() and name.startswith("generator.")
    ]
    assert any("running_mean" in name for name in weights)
    for name in weights:
        first, second, third = (tensor[name] for tensor in updates)
        expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
        torch.testing.assert_close(averaged[name], expected)


def test_an_average_leaves_the_critic_as_it_ended(tmp_path: Path) -> None:
    plain, averaged = (fitted(tmp_path / str(ema), ema=ema, steps=6) for ema in (None, 0.75))
    assert all(torch.equal(plain[name], tensor) for name, tensor in averaged.items() if name.startswith("critic."))


def test_a_resumed_fit_has_the_same_average(tmp_path: Path) -> None:
    undisturbed = fitted(tmp_path / "undisturbed", ema=0.9, steps=12)
    with pytest.raises(Interrupted):
        fitted(tmp_path / "interrupted", ema=0.9, steps=12, stop_after=7)
    resumed = fitted(tmp_path / "interrupted", ema=0.9, steps=12)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())


def test_without_an_average_keys_are_as_before_there_was_one() -> None:
    assert "ema" not in content(WganGpConfig())
    assert content(WganGpConfig(ema=0.9))["ema"] == 0.9


def test_stylegan2_has_an_average_of_its_own_alone() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        StyleGan2Config.model_validate({"ema": 0.9})
