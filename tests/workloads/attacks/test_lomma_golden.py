"""LOMMA against numbers recorded from its authors' code, in all variants and on both hosts.

Tolerances are those the recording asks for, in float64: 1e-9 on latents, 1e-8 on losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import (
    IDENTITIES,
    TinyNetworks,
    assert_recorded,
    follow,
    golden_networks,
    trajectory,
    white_box,
)
from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.lomma import GmiHost, KedmiHost, Lomma, LommaConfig, mean_features
from workloads.core.checkpoints import State
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.gradient_search import GradientAttack
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.observation.oracles import WhiteBoxOracle

STEPS, STARTS = 20, range(2)

TARGET_ALONE: dict[str, Any] = {"distillation": None}
CROSS_ENTROPY: dict[str, Any] = {"identity_loss": "cross_entropy", "feature_weight": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": CROSS_ENTROPY | TARGET_ALONE,
    "L_logit": TARGET_ALONE,
    "L_aug": CROSS_ENTROPY,
    "ours": {},
}
CLIPS = {"clipped": 1.0, "free": None}
ON_GMI = [(variant, start) for variant in VARIANTS for start in STARTS]
ON_KEDMI = [(variant, clip) for variant in ("L_logit", "ours") for clip in CLIPS]


@dataclass(frozen=True)
class RecordedRows(Rows):
    """Rows whose noise is the recorded one, told by `restarts`. Shape: noise (steps, rows, Z)."""

    noise: Tensor

    def normal(self, size: int, *purpose: str | int, step: Tensor | None = None) -> Tensor:
        assert purpose == ("noise",) and step is not None
        return self.noise[int(step), self.restarts, :size]


@dataclass(frozen=True)
class Trajectory:
    """A search with the states before the first and after every step, and the losses, (T, B)."""

    attack: GradientAttack[Any]
    access: Access[WhiteBoxOracle]
    rows: Rows
    states: list[State]
    losses: Tensor

    def of(self, name: str) -> Tensor:
        return trajectory(self.states, name)

    def mean_losses(self, term: str) -> Tensor:
        """Mean of one of the two terms, at the images that each step looked at. Shape: (T,)."""
        means = []
        for number, state in enumerate(self.states[:-1]):
            step = Step.at(number, device=self.access.device)
            images = self.attack.images_of(self.access, state["variables"], self.rows, step)
            losses = (
                self.attack.objective.losses(self.access, images, self.rows.identities)
                if term == "identity"
                else self.attack.prior_losses(self.access, images)
            )
            means.append(losses.mean())
        return torch.stack(means)


def access_to(networks: TinyNetworks, discriminator: str, config: LommaConfig) -> Access[WhiteBoxOracle]:
    surrogates = networks.surrogates() if config.distillation else ()
    return white_box(networks, discriminator, surrogates=surrogates)


def search(case: dict[str, Tensor], config: LommaConfig, start: State | None = None) -> Trajectory:
    attack = Lomma(config).host
    assert isinstance(attack, GradientAttack)
    networks = golden_networks()
    access = access_to(networks, "critic" if config.host.kind == "gmi" else "k_logit", config)
    access = replace(access, findings={"public_features": case["public_feature_mean"]})
    rows = RecordedRows(case["identities"], torch.arange(IDENTITIES), "", case["noise"])
    begun = attack.start(access, rows) if start is None else start
    states, losses = follow(
        attack, access, {name: tensor.double() for name, tensor in begun.items()}, rows, steps=STEPS
    )
    return Trajectory(attack, access, rows, states, losses)


OnGmi = dict[tuple[str, int], Trajectory]
"""Searches by variant and start."""
OnKedmi = dict[tuple[str, str], Trajectory]
"""Searches by variant and clip."""


@pytest.fixture(scope="module")
def on_gmi(case: dict[str, Tensor]) -> OnGmi:
    host = GmiHost(batch_reference=6)
    return {
        (variant, start): search(case, LommaConfig(host=host, **VARIANTS[variant]), {"latents": case["starts"][start]})
        for variant, start in ON_GMI
    }


@pytest.fixture(scope="module")
def on_kedmi(case: dict[str, Tensor]) -> OnKedmi:
    return {
        (variant, clip): search(
            case, LommaConfig(host=KedmiHost(batch_reference=6, clip=CLIPS[clip]), **VARIANTS[variant])
        )
        for variant, clip in ON_KEDMI
    }


@pytest.mark.parametrize(("variant", "start"), ON_GMI)
def test_latents_follow_the_authors_on_gmi(case: dict[str, Tensor], on_gmi: OnGmi, variant: str, start: int) -> None:
    assert_recorded(on_gmi[variant, start].of("latents"), case[f"gmi.{variant}.latents"][start])


@pytest.mark.parametrize("term", ["identity", "prior"])
@pytest.mark.parametrize(("variant", "start"), ON_GMI)
def test_losses_are_the_authors_on_gmi(
    case: dict[str, Tensor], on_gmi: OnGmi, variant: str, start: int, term: str
) -> None:
    losses = on_gmi[variant, start].mean_losses(term)
    assert_recorded(losses, case[f"gmi.{variant}.{term}_loss"][start], atol=1e-8)


@pytest.mark.parametrize(("variant", "start"), ON_GMI)
def test_the_loss_is_realism_and_a_hundred_times_the_identitys(
    case: dict[str, Tensor], on_gmi: OnGmi, variant: str, start: int
) -> None:
    terms = {name: case[f"gmi.{variant}.{name}_loss"][start] for name in ("prior", "identity")}
    total = terms["prior"] + 100 * terms["identity"]
    # 100 x the tolerance of a loss
    torch.testing.assert_close(on_gmi[variant, start].losses.mean(1), total, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "log_variance"])
@pytest.mark.parametrize(("variant", "clip"), ON_KEDMI)
def test_the_gaussians_follow_the_authors_on_kedmi(
    case: dict[str, Tensor], on_kedmi: OnKedmi, variant: str, clip: str, name: str
) -> None:
    assert_recorded(on_kedmi[variant, clip].of(name), case[f"ked.{variant}.{clip}.{name}"])


@pytest.mark.parametrize("term", ["identity", "prior"])
@pytest.mark.parametrize(("variant", "clip"), ON_KEDMI)
def test_losses_are_the_authors_on_kedmi(
    case: dict[str, Tensor], on_kedmi: OnKedmi, variant: str, clip: str, term: str
) -> None:
    losses = on_kedmi[variant, clip].mean_losses(term)
    assert_recorded(losses, case[f"ked.{variant}.{clip}.{term}_loss"], atol=1e-8)


def test_public_features_have_the_recorded_mean(case: dict[str, Tensor]) -> None:
    target = golden_networks().target
    features = mean_features(WhiteBoxOracle(target), case["public_images"][:40].double().split(20))
    assert_recorded(features, case["public_feature_mean"], atol=1e-8)


# The whole attack, in float32 as a job runs it.

PUBLIC = torch.randint(256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
HOSTS: dict[str, Any] = {"gmi": GmiHost(restarts=1, steps=30), "kedmi": KedmiHost(steps=30)}


def attacked(folder: Path, host: str, *, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    config = LommaConfig(host=HOSTS[host].model_copy(update=settings), public_statistics=50)
    access = access_to(golden_networks(torch.float32), "k_logit", config)
    context = context_at(folder, stop_at=stop_at)
    return Lomma(config).run(replace(access, public_images=PUBLIC), torch.arange(IDENTITIES), context=context)


@pytest.mark.parametrize(("host", "final_images"), [("gmi", 6), ("kedmi", 30)])
def test_every_image_shown_to_the_target_is_counted(tmp_path: Path, host: str, final_images: int) -> None:
    # public images, rows x steps, and each final image; surrogates are the attacker's own
    assert attacked(tmp_path, host).queries == 50 + 6 * 30 + final_images


@pytest.mark.parametrize("host", HOSTS)
def test_the_size_of_a_chunk_changes_nothing_beyond_float_rounding(tmp_path: Path, host: str) -> None:
    unsplit = attacked(tmp_path / "whole", host, steps=10)
    parts = attacked(tmp_path / "parts", host, steps=10, chunk_rows=4)
    # 10 x 3e-6, the largest drift of the authors' own code in float32 over 20 steps
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=3e-5)


@pytest.mark.parametrize("host", HOSTS)
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, host: str) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", host, chunk_rows=3)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", host, chunk_rows=3, stop_at=55)  # of 60: 2 chunks of 30 steps
    resumed = attacked(tmp_path / "interrupted", host, chunk_rows=3)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert torch.equal(resumed.scores, undisturbed.scores)
    assert resumed.queries == undisturbed.queries


def test_draws_are_clipped_in_the_end_as_well(tmp_path: Path) -> None:
    assert attacked(tmp_path, "kedmi", steps=1).latents.abs().max() == 1.0


def test_no_weight_ever_receives_a_gradient(tmp_path: Path) -> None:
    networks, config = golden_networks(torch.float32), LommaConfig(host=KedmiHost(steps=2))
    access = replace(access_to(networks, "k_logit", config), public_images=PUBLIC)
    Lomma(config).run(access, torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert all(weight.grad is None for weight in networks.parameters())
