"""GMI against numbers recorded from its authors' code, and what holds for the loop that drives it.

Tolerances are those the recording asks for: 1e-9 on latents and velocity, 1e-8 on losses, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from workloads.attacks.gmi import Gmi, GmiConfig
from workloads.core.errors import DivergedError
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_each
from workloads.observation.oracles import WhiteBoxOracle

SEEDS = range(5)
STEPS = 20


@dataclass(frozen=True)
class Trajectory:
    """Shape: latents (T + 1, B, Z), velocity (T, B, Z), losses (T, B)."""

    latents: Tensor
    velocity: Tensor
    losses: Tensor


@pytest.fixture(scope="module")
def batch6(case: dict[str, Tensor], networks: TinyNetworks) -> list[Trajectory]:
    """One trajectory a seed."""
    return [descend(white_box(networks), case["starts"][seed], batch_reference=6) for seed in SEEDS]


def descend(access: Access[WhiteBoxOracle], start: Tensor, *, batch_reference: int) -> Trajectory:
    attack = Gmi(GmiConfig(batch_reference=batch_reference))
    rows = Rows.of(torch.arange(len(start)), 1, key="")
    states, losses = follow(attack, access, {"latents": start.double()}, rows, steps=STEPS)
    return Trajectory(
        trajectory(states, "latents"),
        torch.stack([state["memory"]["latents"] for state in states[:-1]]),
        losses,
    )


def test_the_critic_gives_the_recorded_values(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    latents = case["batch6.latents"][:, :-1].flatten(0, 2)
    values = white_box(networks).required_prior.realism(networks.generator(latents))
    assert_recorded(values, case["batch6.critic"].flatten())


def test_the_target_gives_the_recorded_logits(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    logits = networks.target(networks.generator(case["batch6.latents"][:, -1].flatten(0, 1)))
    assert_recorded(logits, case["batch6.final_logits"].flatten(0, 1), atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_latents_follow_the_authors_in_a_batch_of_six(
    case: dict[str, Tensor], batch6: list[Trajectory], seed: int
) -> None:
    assert_recorded(batch6[seed].latents, case["batch6.latents"][seed])


@pytest.mark.parametrize("seed", SEEDS)
def test_velocity_follows_the_authors_in_a_batch_of_six(
    case: dict[str, Tensor], batch6: list[Trajectory], seed: int
) -> None:
    assert_recorded(batch6[seed].velocity, case["batch6.velocity_before_step"][seed])


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_loss_is_the_authors_total_in_a_batch_of_six(
    case: dict[str, Tensor], batch6: list[Trajectory], seed: int
) -> None:
    assert_recorded(batch6[seed].losses.mean(1), case["batch6.total_loss"][seed], atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_latents_follow_the_authors_in_a_batch_of_two(
    case: dict[str, Tensor], networks: TinyNetworks, seed: int
) -> None:
    trajectory = descend(white_box(networks), case["starts"][seed, :2], batch_reference=2)
    assert_recorded(trajectory.latents, case["batch2.latents"][seed])


@pytest.mark.parametrize("seed", SEEDS)
def test_two_rows_alone_move_as_in_the_batch_of_six_with_its_reference(
    case: dict[str, Tensor], networks: TinyNetworks, seed: int
) -> None:
    trajectory = descend(white_box(networks), case["starts"][seed, :2], batch_reference=6)
    assert_recorded(trajectory.latents, case["batch6.latents"][seed, :, :2])


def test_the_wrong_batch_reference_is_far_from_the_authors(case: dict[str, Tensor], networks: TinyNetworks) -> None:
    trajectory = descend(white_box(networks), case["starts"][0, :2], batch_reference=6)
    assert (trajectory.latents - case["batch2.latents"][0]).abs().max() > 0.1  # the margin the recording states


@pytest.mark.parametrize("seed", [0, 1])
def test_the_later_code_with_the_critic_moves_alike(
    case: dict[str, Tensor], batch6: list[Trajectory], seed: int
) -> None:
    assert_recorded(batch6[seed].latents, case["ked_critic.latents"][seed])


@pytest.mark.parametrize("seed", [0, 1])
def test_another_prior_reaches_the_search_through_realism_alone(
    case: dict[str, Tensor], networks: TinyNetworks, seed: int
) -> None:
    trajectory = descend(white_box(networks, "k_logit"), case["starts"][seed], batch_reference=6)
    assert_recorded(trajectory.latents, case["ked_k_logit.latents"][seed])


def own_scores(case: dict[str, Tensor]) -> Tensor:
    """Target logit of the identity aimed at, of every (seed, identity) after the last step."""
    return case["batch6.final_logits"].diagonal(dim1=1, dim2=2)


def test_the_best_start_of_each_identity_has_the_recorded_score(case: dict[str, Tensor]) -> None:
    scores, identities = own_scores(case).flatten(), torch.arange(IDENTITIES).repeat(len(SEEDS))
    kept = best_of_each(scores, identities, keep=1)
    best = torch.zeros(IDENTITIES, dtype=torch.float64).index_put((identities[kept],), scores[kept])
    assert_recorded(best, case["batch6.best_score"])


def test_the_best_start_of_each_identity_has_the_recorded_latent(case: dict[str, Tensor]) -> None:
    scores, identities = own_scores(case).flatten(), torch.arange(IDENTITIES).repeat(len(SEEDS))
    kept = best_of_each(scores, identities, keep=1)
    latents = case["batch6.latents"][:, -1].flatten(0, 1)
    best = torch.zeros_like(case["batch6.best_latent"]).index_put((identities[kept],), latents[kept])
    assert_recorded(best, case["batch6.best_latent"])


# The whole attack, in float32 as a job runs it.


def attacked(folder: Path, *, steps: int = 30, stop_at: int | None = None, **settings: Any) -> Reconstructions:
    attack = Gmi(GmiConfig(restarts=3, steps=steps, batch_reference=6, **settings))
    access = white_box(golden_networks(torch.float32))
    return attack.run(access, torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at))


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_nothing_beyond_float_rounding(tmp_path: Path, chunk_rows: int) -> None:
    unsplit = attacked(tmp_path / "whole", chunk_rows=256, steps=10)
    parts = attacked(tmp_path / "parts", chunk_rows=chunk_rows, steps=10)
    # 10 x 3e-5, the drift of the authors' own code in float32 over 20 steps
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=3e-4)


def test_rows_are_every_restart_of_every_identity_whatever_the_chunks(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, chunk_rows=4, steps=1)
    expected = torch.tensor([(identity, restart) for identity in range(IDENTITIES) for restart in range(3)])
    assert torch.equal(torch.stack([reconstructions.identities, reconstructions.restarts], 1), expected)


@pytest.mark.parametrize("stop_at", [25, 30, 55])  # of 60 reported steps: 2 chunks of 30
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", chunk_rows=9)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", chunk_rows=9, stop_at=stop_at)
    resumed = attacked(tmp_path / "interrupted", chunk_rows=9)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert torch.equal(resumed.images, undisturbed.images)
    assert torch.equal(resumed.scores, undisturbed.scores)
    assert resumed.queries == undisturbed.queries


def test_a_resumed_attack_does_not_repeat_finished_chunks(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        attacked(tmp_path, chunk_rows=9, stop_at=55)
    seen: list[int] = []
    attack = Gmi(GmiConfig(restarts=3, steps=30, batch_reference=6, chunk_rows=9))
    access = white_box(golden_networks(torch.float32))
    context = context_at(tmp_path)
    context.on_progress = lambda progress: seen.append(progress.step)
    attack.run(access, torch.arange(IDENTITIES), context=context)
    assert seen[0] == 55


def test_every_image_shown_to_the_target_is_counted(tmp_path: Path) -> None:
    assert attacked(tmp_path, chunk_rows=9).queries == 18 * 30 + 18  # rows x steps, and each final image


def test_the_attack_keeps_so_many_of_each_identity(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, keep=2, steps=2)
    assert reconstructions.identities[reconstructions.kept].bincount().tolist() == [2] * IDENTITIES


def test_no_weight_ever_receives_a_gradient(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    attack = Gmi(GmiConfig(restarts=2, steps=3))
    attack.run(white_box(networks), torch.arange(IDENTITIES), context=context_at(tmp_path))
    assert all(weight.grad is None for weight in networks.parameters())


def test_the_attack_leaves_every_weight_and_statistic_as_it_was(tmp_path: Path) -> None:
    networks, before = golden_networks(torch.float32), golden_networks(torch.float32).state_dict()
    attack = Gmi(GmiConfig(restarts=2, steps=3))
    attack.run(white_box(networks), torch.arange(IDENTITIES), context=context_at(tmp_path))
    after = networks.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_loss_that_is_no_number_is_reported_with_the_way_out(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    networks.target.head.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"^gmi: a loss became NaN or infinite by step 3: lower its lr\.$"):
        Gmi(GmiConfig(restarts=1, steps=3)).run(
            white_box(networks), torch.arange(IDENTITIES), context=context_at(tmp_path)
        )
