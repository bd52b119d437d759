"""BREP-MI against numbers recorded from its authors' code, and what holds for its batches.

Labels, acceptance and counts are exact and so are radii; centres within 1e-9 in float64, as the recording asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, TinyNetworks, assert_recorded, golden_networks
from tests.support.interruptions import Interrupted, context_at
from workloads.attacks.brepmi import Brepmi, BrepmiConfig
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.rows import Rows
from workloads.observation.oracles import Answer, LabelOracle

CPU = torch.device("cpu")
RUNS = ["run0", "run1", "run2", "run3"]
PATIENCE = 15


class Watched(LabelOracle):
    """Remembers its answers."""

    def __init__(self, logits: Answer) -> None:
        super().__init__(logits)
        self.answers: list[Tensor] = []

    def labels(self, images: Tensor) -> Tensor:
        self.answers.append(super().labels(images))
        return self.answers[-1]


class Scripted(LabelOracle):
    """Gives these answers, one list after the other."""

    def __init__(self, answers: list[Tensor]) -> None:
        super().__init__(lambda images: images)
        self._left = list(answers)

    def labels(self, images: Tensor) -> Tensor:
        return self._left.pop(0)


@dataclass(frozen=True)
class RecordedRows(Rows):
    """Rows whose spheres are drawn from recorded numbers. Shape: recorded (attempt, B, points * Z)."""

    recorded: Tensor

    def normal(self, size: int, *purpose: str | int, step: Tensor | None = None) -> Tensor:
        assert purpose == ("sphere",) and step is not None
        return self.recorded[int(step)].double()


@dataclass(frozen=True)
class Followed:
    """Shape: centre and radius at the beginning of each attempt, (T, ...), and the state after the last."""

    centre: Tensor
    radius: Tensor
    last: State


Run = tuple[str, Followed, list[Tensor]]
"""Name of a run, what our code did, and what the target answered."""


def access_to(oracle: LabelOracle, networks: TinyNetworks) -> Access[LabelOracle]:
    return Access(oracle, CPU, prior=networks.prior())


def begun(case: dict[str, Tensor], runs: list[str], label: Tensor) -> State:
    starts = torch.stack([case[f"{run}.start"] for run in runs])
    radii = torch.stack([case[f"{run}.start_radius"] for run in runs])
    nothing = torch.zeros(len(runs), dtype=torch.int64)
    started = torch.ones(len(runs), dtype=torch.bool)
    return {
        "centre": starts,
        "label": label,
        "found": started,
        "radius": radii,
        "moves": nothing,
        "grown_at": nothing.clone(),
    }


def follow(case: dict[str, Tensor], runs: list[str], oracle: LabelOracle, label: Tensor, steps: int) -> Followed:
    attack = Brepmi(BrepmiConfig(patience=PATIENCE, repulsion_only=bool(case[f"{runs[0]}.repulsion_only"])))
    draws = torch.stack([case[f"{run}.normal_draws"][:steps].flatten(1) for run in runs], 1)
    rows = RecordedRows(label, torch.zeros_like(label), "", draws)
    access, state = access_to(oracle, golden_networks()), begun(case, runs, label)
    centres, radii = [], []
    for step in range(steps):
        centres.append(state["centre"])
        radii.append(state["radius"])
        state, _ = attack.advance(access, state, rows, step)
    return Followed(torch.stack(centres), torch.stack(radii), state)


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, case: dict[str, Tensor]) -> Run:
    """A run's name, what our code did, and what the target answered to it: 32 labels and one, by turns."""
    name, networks = request.param, golden_networks()
    oracle = Watched(networks.target)
    followed = follow(case, [name], oracle, case[f"{name}.label"][None], len(case[f"{name}.radius"]))
    return name, followed, oracle.answers


def test_centres_follow_the_authors(case: dict[str, Tensor], run: Run) -> None:
    name, followed, _ = run
    assert_recorded(followed.centre[:, 0], case[f"{name}.centre"])
    assert_recorded(followed.last["centre"][0], case[f"{name}.final_centre"])


def test_radii_are_the_authors(case: dict[str, Tensor], run: Run) -> None:
    name, followed, _ = run
    assert torch.equal(followed.radius[:, 0], case[f"{name}.radius"])
    assert followed.last["radius"].item() == case[f"{name}.final_radius"].item()


def test_the_target_names_the_points_on_the_spheres_as_recorded(case: dict[str, Tensor], run: Run) -> None:
    name, _, answers = run
    inside = torch.stack(answers[0::2]) == case[f"{name}.label"]
    assert torch.equal(inside, case[f"{name}.inside"] > 0)


def test_moves_are_accepted_as_recorded(case: dict[str, Tensor], run: Run) -> None:
    name, _, answers = run
    accepted = torch.cat(answers[1::2]) == case[f"{name}.label"]
    assert torch.equal(accepted, case[f"{name}.accepted"] > 0)


def test_moves_and_growth_are_counted_as_by_the_authors(case: dict[str, Tensor], run: Run) -> None:
    name, followed, _ = run
    assert followed.last["moves"].item() == case[f"{name}.counted_iterations"].item()
    assert followed.last["grown_at"].item() == case[f"{name}.last_growth_at"].item()


def test_patience_ends_a_search_where_it_ended_the_authors(run: Run) -> None:
    _, followed, _ = run
    assert Brepmi(BrepmiConfig(patience=PATIENCE)).settled(followed.last).tolist() == [True]
    assert Brepmi(BrepmiConfig(patience=PATIENCE + 1)).settled(followed.last).tolist() == [False]


def scripted(case: dict[str, Tensor]) -> Followed:
    turns = zip(case["scripted.inside"], case["scripted.accepted"], strict=True)
    answers = [labels for points, move in turns for labels in ((points > 0).long(), (move > 0).long()[None])]
    return follow(case, ["scripted"], Scripted(answers), torch.tensor([1]), len(case["scripted.radius"]))


def test_scripted_labels_lead_where_they_led_the_authors(case: dict[str, Tensor]) -> None:
    followed = scripted(case)
    assert_recorded(followed.centre[:, 0], case["scripted.centre"])
    assert_recorded(followed.last["centre"][0], case["scripted.final_centre"])


def test_scripted_labels_grow_the_sphere_as_the_authors_even_where_a_move_is_refused(case: dict[str, Tensor]) -> None:
    followed = scripted(case)
    assert torch.equal(followed.radius[:, 0], case["scripted.radius"])
    assert followed.last["moves"].item() == case["scripted.counted_iterations"].item()
    assert followed.last["grown_at"].item() == case["scripted.last_growth_at"].item()


def test_28_of_32_points_inside_do_not_grow_the_sphere_and_29_do(case: dict[str, Tensor]) -> None:
    inside = (case["scripted.inside"] > 0).sum(1)
    grown = scripted(case).radius[1:, 0] > scripted(case).radius[:-1, 0]
    assert set(grown[inside[:-1] == 28].tolist()) == {False}
    assert set(grown[inside[:-1] == 29].tolist()) == {True}


def test_runs_that_share_a_batch_move_as_alone(case: dict[str, Tensor]) -> None:
    together, networks = ["run0", "run2", "run3"], golden_networks()
    labels = torch.stack([case[f"{name}.label"] for name in together])
    followed = follow(case, together, LabelOracle(networks.target), labels, 22)
    expected = torch.stack([case[f"{name}.centre"][:22] for name in together], 1)
    assert_recorded(followed.centre, expected)


# Starts


class Recorded(Brepmi):
    """Draws its random latents from the recorded pool."""

    pooled: Tensor

    def pool(self, access: Access[LabelOracle], batch: int, *, context: JobContext) -> Tensor:
        return self.pooled[batch].double()


def starts(case: dict[str, Tensor], folder: Path, identities: Tensor, **settings: Any) -> tuple[State, int]:
    networks = golden_networks()
    oracle, attack = LabelOracle(networks.target), Recorded(BrepmiConfig(**settings))
    attack.pooled = case["pool"]
    findings = attack.prepare(access_to(oracle, networks), identities, context=context_at(folder))
    return findings, oracle.queries


def test_each_identity_starts_at_the_first_latent_named_so(case: dict[str, Tensor], tmp_path: Path) -> None:
    findings, queries = starts(case, tmp_path, torch.arange(IDENTITIES))
    order = case["initial.labels_in_order_of_discovery"]
    assert_recorded(findings["starts"][order, 0], case["initial.points"])
    assert findings["found"].all()
    assert queries == 16 * case["initial.batches_used"].item()


def test_the_authors_attack_the_labels_hit_first(case: dict[str, Tensor], tmp_path: Path) -> None:
    findings, _ = starts(case, tmp_path, torch.arange(4), fidelity="official")
    assert torch.equal(findings["labels"], case["initial.any_4_labels"])
    assert_recorded(findings["starts"][:, 0], case["initial.any_4_points"])


def test_further_starts_are_the_next_latents_named_so(case: dict[str, Tensor], tmp_path: Path) -> None:
    findings, _ = starts(case, tmp_path, torch.arange(IDENTITIES), restarts=3)
    networks, pool = golden_networks(), case["pool"].flatten(0, 1).double().clamp(-1.5, 1.5)
    named = networks.target(networks.generator(pool)).argmax(1)
    assert torch.equal(findings["starts"][2], pool[(named == 2).nonzero().flatten()[:3]])


def test_an_identity_that_no_latent_hits_is_left_without_a_start(case: dict[str, Tensor], tmp_path: Path) -> None:
    findings, queries = starts(case, tmp_path, torch.tensor([4, 5]), draws=16)  # 5 is named in the second batch
    assert findings["found"].tolist() == [[True], [False]]
    assert queries == 16


def test_what_stands_in_for_a_start_that_was_not_found_is_named_otherwise(
    case: dict[str, Tensor], tmp_path: Path
) -> None:
    findings, _ = starts(case, tmp_path, torch.arange(IDENTITIES), draws=16, restarts=8)
    networks = golden_networks()
    named = networks.target(networks.generator(findings["starts"].flatten(0, 1))).argmax(1).view(IDENTITIES, 8)
    assert torch.equal(named == torch.arange(IDENTITIES)[:, None], findings["found"])
    assert not findings["found"].all()


# The whole attack, in float32 as a job runs it.


def attacked(
    folder: Path, *, stop_at: int | None = None, unnamed: int | None = None, **settings: Any
) -> Reconstructions:
    """An attack on all identities by a target that never says `unnamed`."""
    networks = golden_networks(torch.float32)
    if unnamed is not None:
        networks.target.head.bias[unnamed] = -100.0
    defaults = {"radius": 0.5, "steps": 40, "patience": 6, "draws": 512}
    attack = Brepmi(BrepmiConfig(**{**defaults, **settings}))
    access = access_to(LabelOracle(networks.target), networks)
    return attack.run(access, torch.arange(IDENTITIES), context=context_at(folder, stop_at=stop_at))


def test_what_is_returned_is_named_as_wanted(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path)
    assert torch.equal(reconstructions.scores, torch.ones(IDENTITIES))


def test_an_identity_without_a_start_scores_nothing_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, unnamed=2)
    assert reconstructions.scores.tolist() == [1, 1, 0, 1, 1, 1]


def test_an_identity_without_a_start_is_told_in_the_history(tmp_path: Path) -> None:
    context = context_at(tmp_path)
    networks = golden_networks(torch.float32)
    networks.target.head.bias[2] = -100.0
    attack = Brepmi(BrepmiConfig(steps=1, draws=512))
    attack.run(access_to(LabelOracle(networks.target), networks), torch.arange(IDENTITIES), context=context)
    context.write_history()
    assert '"starts_found": 0.8333333' in (tmp_path / "history.json").read_text()  # 5 of 6


def test_queries_are_the_pool_33_an_attempt_and_one_for_each_image(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, steps=5, patience=100)
    assert reconstructions.queries == 256 + IDENTITIES * 5 * 33 + IDENTITIES


def test_searches_that_never_settle_end_at_the_cap(tmp_path: Path) -> None:
    assert attacked(tmp_path, steps=7, patience=100).latent_steps == IDENTITIES * 7


def test_a_target_that_names_everything_alike_ends_a_search_by_its_radius(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    networks.target.head.bias[3] = 100.0
    attack = Brepmi(BrepmiConfig(steps=100, draws=256, radius=2.0, largest_radius=10.0))
    access = access_to(LabelOracle(networks.target), networks)
    reconstructions = attack.run(access, torch.tensor([3]), context=context_at(tmp_path))
    assert reconstructions.latent_steps == 7  # 2 * 1.3 ** 6 = 9.7 and 2 * 1.3 ** 7 = 12.5


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_the_size_of_a_chunk_changes_no_more_than_float_rounding(tmp_path: Path, chunk_rows: int) -> None:
    unsplit = attacked(tmp_path / "whole", restarts=2)
    parts = attacked(tmp_path / "parts", restarts=2, chunk_rows=chunk_rows)
    # The recording's drift in float32 is 2e-7 as long as no label differs; none does here.
    torch.testing.assert_close(parts.latents, unsplit.latents, rtol=0.0, atol=1e-5)
    assert parts.queries == unsplit.queries


def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", patience=100)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", patience=100, stop_at=25)
    resumed = attacked(tmp_path / "interrupted", patience=100)
    assert torch.equal(resumed.latents, undisturbed.latents)
    assert resumed.queries == undisturbed.queries


def test_the_authors_choice_of_labels_is_returned_under_those_labels(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    attack = Brepmi(BrepmiConfig(steps=2, fidelity="official"))
    access = access_to(LabelOracle(networks.target), networks)
    reconstructions = attack.run(access, torch.arange(3), context=context_at(tmp_path))
    assert torch.equal(networks.target(reconstructions.images).argmax(1), reconstructions.identities)
    assert len(set(reconstructions.identities.tolist())) == 3


def test_published_protocols_say_whom_they_attacked() -> None:
    assert Brepmi(BrepmiConfig()).protocol()["attacked"] == "fixed"
    assert Brepmi(BrepmiConfig(fidelity="official")).protocol()["attacked"] == "first hit"


def test_a_prior_that_is_told_whom_to_show_is_refused_with_the_way_out() -> None:
    prior = golden_networks().conditional_prior()
    with pytest.raises(ConfigError, match=r"recorded has to be told the identity: give the attack another prior, for"):
        Brepmi(BrepmiConfig()).check(prior=prior, classes=6)
