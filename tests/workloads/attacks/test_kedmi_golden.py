"""KED-MI against numbers recorded from its authors' code, with the noise recorded beside them.

Tolerances are those the recording asks for, in float64: 1e-9 on means, log variances and images; 1e-8 on losses, of
which the identity's is weighted by 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, assert_recorded, follow, golden_networks, trajectory, white_box
from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.kedmi import Kedmi, KedmiConfig
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior, PriorConfig
from workloads.priors.wgan_gp import WganGpConfig

STEPS, DRAWS = 20, 5
PRIORS = ("k_logit", "critic")


@dataclass(frozen=True)
class RecordedRows(Rows):
    """Rows whose noise is the recorded one, told by `restarts`. Shape: noise (calls, rows, Z): steps, then draws."""

    noise: Tensor

    def normal(self, size: int, *purpose: str | int, step: Tensor | None = None) -> Tensor:
        call = int(step) if step is not None else STEPS + int(purpose[1])
        return self.noise[call, self.restarts, :size]


@dataclass(frozen=True)
class Fit:
    """States before the first and after every step, and the losses, (T, B)."""

    attack: Kedmi
    access: Access[WhiteBoxOracle]
    rows: Rows
    states: list[State]
    losses: Tensor

    def trajectory(self, name: str) -> Tensor:
        return trajectory(self.states, name)

    def images(self) -> list[Tensor]:
        """The images that each step looked at."""
        return [
            self.attack.images_of(self.access, state["variables"], self.rows, Step.at(step, device=self.access.device))
            for step, state in enumerate(self.states[:-1])
        ]


@pytest.fixture(scope="module")
def fits(case: dict[str, Tensor]) -> dict[str, Fit]:
    return {name: fitted(case, name) for name in PRIORS}


def fitted(case: dict[str, Tensor], discriminator: str) -> Fit:
    attack, access = Kedmi(KedmiConfig(batch_reference=6)), white_box(golden_networks(), discriminator)
    rows = RecordedRows(case["identities"], torch.arange(IDENTITIES), "", case["noise"])
    start = {name: tensor.double() for name, tensor in attack.start(access, rows).items()}
    states, losses = follow(attack, access, start, rows, steps=STEPS)
    return Fit(attack, access, rows, states, losses)


@pytest.mark.parametrize("name", ["mean", "log_variance"])
@pytest.mark.parametrize("prior", PRIORS)
def test_the_gaussians_follow_the_authors(case: dict[str, Tensor], fits: dict[str, Fit], prior: str, name: str) -> None:
    assert_recorded(fits[prior].trajectory(name), case[f"{prior}.{name}"])


@pytest.mark.parametrize("prior", PRIORS)
def test_the_mean_loss_is_the_authors_total(case: dict[str, Tensor], fits: dict[str, Fit], prior: str) -> None:
    assert_recorded(fits[prior].losses.mean(1), case[f"{prior}.total_loss"], atol=1e-8)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_prior_loss_is_the_authors(case: dict[str, Tensor], fits: dict[str, Fit], prior: str) -> None:
    fit = fits[prior]
    losses = torch.stack([fit.attack.prior_losses(fit.access, images).mean() for images in fit.images()])
    assert_recorded(losses, case[f"{prior}.prior_loss"])


@pytest.mark.parametrize("prior", PRIORS)
def test_the_identity_loss_is_the_authors(case: dict[str, Tensor], fits: dict[str, Fit], prior: str) -> None:
    fit, aimed = fits[prior], case["identities"]
    losses = torch.stack([fit.attack.objective.losses(fit.access, images, aimed).mean() for images in fit.images()])
    assert_recorded(losses, case[f"{prior}.identity_loss"])


@pytest.mark.parametrize("prior", PRIORS)
def test_the_final_draws_give_the_authors_images(case: dict[str, Tensor], fits: dict[str, Fit], prior: str) -> None:
    fit = fits[prior]
    _, latents = fit.attack.latents(fit.access, fit.states[-1], fit.rows)
    images = fit.access.required_prior.synthesize(latents).unflatten(0, (IDENTITIES, DRAWS)).transpose(0, 1)
    assert_recorded(images, case[f"{prior}.final_images"])


def test_the_draws_of_a_row_stand_together_and_carry_its_identity(
    case: dict[str, Tensor], fits: dict[str, Fit]
) -> None:
    fit = fits["k_logit"]
    rows, _ = fit.attack.latents(fit.access, fit.states[-1], fit.rows)
    assert rows.identities.tolist() == [identity for identity in case["identities"].tolist() for _ in range(DRAWS)]


def test_a_clip_bounds_every_draw(case: dict[str, Tensor], fits: dict[str, Fit]) -> None:
    fit = fits["k_logit"]
    _, free = fit.attack.latents(fit.access, fit.states[-1], fit.rows)
    _, clipped = Kedmi(KedmiConfig(clip=0.5)).latents(fit.access, fit.states[-1], fit.rows)
    assert torch.equal(clipped, free.clamp(-0.5, 0.5))


# The whole attack, in float32 as a job runs it.


def attacked(folder: Path, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Kedmi(KedmiConfig(**{"steps": 30, "batch_reference": 6, **settings}))
    access = white_box(golden_networks(torch.float32), "k_logit")
    return attack.run(access, torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at))


def test_every_draw_is_a_reconstruction(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, steps=1, restarts=2, draws=4, keep=8)
    assert reconstructions.identities[reconstructions.kept].bincount().tolist() == [2 * 4] * IDENTITIES


def test_every_image_shown_to_the_target_is_counted(tmp_path: Path) -> None:
    assert attacked(tmp_path).queries == 6 * 30 + 6 * DRAWS  # rows x steps, and each final image


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_nothing_beyond_float_rounding(tmp_path: Path, chunk_rows: int) -> None:
    unsplit = attacked(tmp_path / "whole", steps=10)
    parts = attacked(tmp_path / "parts", steps=10, chunk_rows=chunk_rows)
    # 10 x 4e-7, the drift of the authors' own code in float32 over 20 steps, times noise of up to 4
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=1.6e-5)


@pytest.mark.parametrize("stop_at", [25, 30, 55])  # of 60 reported steps: 2 chunks of 30
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", chunk_rows=3)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", chunk_rows=3, stop_at=stop_at)
    resumed = attacked(tmp_path / "interrupted", chunk_rows=3)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert torch.equal(resumed.scores, undisturbed.scores)
    assert resumed.queries == undisturbed.queries


def test_no_weight_ever_receives_a_gradient(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    attack = Kedmi(KedmiConfig(steps=2))
    attack.run(white_box(networks, "k_logit"), torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert all(weight.grad is None for weight in networks.parameters())


# What is asked for and refused.


class Blind(Prior):
    """A prior that judges nothing."""

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        return latents

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None: ...


def test_a_prior_that_judges_no_images_is_refused_with_the_way_out() -> None:
    prior = Blind(PriorConfig(kind="blind"), channels=3, image_size=8, classes=6)
    with pytest.raises(ConfigError, match=r"^prior: kedmi .* real images look, which blind .* not judge: take ked_gan"):
        Kedmi(KedmiConfig()).check(prior=prior, classes=6)


def test_keeping_more_than_is_drawn_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="keep 5 is above the 4 made of each identity: lower"):
        KedmiConfig(restarts=2, draws=2)


def test_the_prior_is_the_authors_own_whatever_the_spec_has() -> None:
    prior = KedmiConfig().with_prior(WganGpConfig()).prior
    assert isinstance(prior, ComponentConfig) and prior.kind == "ked_gan"


def test_the_prior_is_that_of_the_spec_where_its_own_is_taken_off() -> None:
    assert KedmiConfig(prior=None).with_prior(WganGpConfig()).prior == WganGpConfig()
