"""PPDG-MI: what a prior is tuned on, and a whole attack on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.gmi import GmiConfig
from workloads.attacks.ppdgmi import Ppdgmi, PpdgmiConfig
from workloads.core.errors import ConfigError
from workloads.core.randomness import generator
from workloads.inversion.attack import Access, Reconstructions
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import Prior
from workloads.priors.wgan_gp import WganGp, WganGpConfig
from workloads.training.classifiers import Architecture

CPU = torch.device("cpu")
HOST = GmiConfig(restarts=4, keep=2, steps=3, batch_reference=1)
SETTINGS: dict[str, Any] = {"host": HOST, "pseudo_private": 2, "tune_steps": 5, "views": 3}


def prior() -> WganGp:
    config = WganGpConfig(width=2, latent_size=4, batch_size=4)
    wgan = WganGp(config, channels=1, image_size=32, classes=1)
    wgan.draw_weights(generator("test", "prior"))
    return wgan.eval().requires_grad_(False)


def target_model() -> Classifier:
    model = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=3, channels=1, image_size=32).build()
    model.draw_weights(generator("test", "target"))
    return model.eval().requires_grad_(False)


def access_to(wgan: Prior | None = None) -> Access[WhiteBoxOracle]:
    public = torch.randint(256, (50, 1, 32, 32), dtype=torch.uint8, generator=generator("test", "public"))
    return Access(WhiteBoxOracle(target_model()), CPU, 1, 32, wgan or prior(), public_images=public)


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Ppdgmi(PpdgmiConfig(**{**SETTINGS, **settings}))
    return attack.run(access_to(), torch.tensor([0, 2]), context=context_at(folder, stop_at=stop_at))


def test_every_identity_keeps_what_the_host_keeps_of_its_last_round(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path)
    assert reconstructions.identities.tolist() == [0] * 4 + [2] * 4
    assert reconstructions.identities[reconstructions.kept].tolist() == [0, 0, 2, 2]


def test_one_round_is_the_host_alone(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, rounds=1)
    assert reconstructions.queries == 8 * 3 + 8  # rows x steps, and the final images


def test_queries_of_both_rounds_and_of_the_choice_between_are_counted(tmp_path: Path) -> None:
    """Two rounds of 8 rows, and 3 views of each of the first round's reconstructions."""
    assert attacked(tmp_path).queries == 2 * (8 * 3 + 8) + 8 * 3


def test_the_fitted_prior_itself_stays_as_it_was(tmp_path: Path) -> None:
    """A copy of it is: the prior of the first round serves every identity."""
    wgan = prior()
    before = {name: value.clone() for name, value in wgan.state_dict().items()}
    Ppdgmi(PpdgmiConfig(**SETTINGS)).run(access_to(wgan), torch.tensor([0]), context=context_at(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in wgan.state_dict().items())


def test_tuning_moves_the_prior_towards_what_it_is_shown(tmp_path: Path) -> None:
    """All images are black, so the images of the tuned prior darken."""
    untuned, tuned = prior(), prior()
    black = torch.zeros(20, 1, 32, 32, dtype=torch.uint8)
    tuned.tune(black, steps=200, lr=0.01, context=context_at(tmp_path))
    latents = torch.randn(16, 4, generator=generator("test", "latents"))
    assert tuned.synthesize(latents).mean() < 0.7 * untuned.synthesize(latents).mean()
    assert not any(weight.requires_grad for weight in tuned.parameters())


@pytest.mark.parametrize("stop_at", [3])
def test_an_interrupted_attack_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    undisturbed = attacked(tmp_path / "whole")
    with pytest.raises(Interrupted):
        attacked(tmp_path / "parts", stop_at=stop_at)
    again = attacked(tmp_path / "parts")
    assert torch.equal(again.images, undisturbed.images)
    assert (again.queries, again.latent_steps) == (undisturbed.queries, undisturbed.latent_steps)


def test_a_prior_without_a_critic_is_refused() -> None:
    class Plain(Prior):
        def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
            return latents

        def fit(self, images: Tensor, **rest: Any) -> None:
            """Nothing."""

    plain = Plain(WganGpConfig(), channels=1, image_size=32, classes=1)
    with pytest.raises(ConfigError, match=r"^ppdgmi tunes its prior further, which takes a prior that is fitted"):
        Ppdgmi(PpdgmiConfig(**SETTINGS)).check(prior=plain, classes=3)
