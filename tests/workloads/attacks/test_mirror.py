"""MIRROR against numbers recorded from its authors' code, and what is done otherwise on purpose.

The tolerance is the one the recording asks for: 1e-9 on latents in float64; indices and steps are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import IDENTITIES, TinyNetworks, assert_recorded, follow, golden_networks, trajectory
from tests.support.interruptions import Interrupted, context_at
from tests.support.staged_networks import OneBlock, TinyStaged, access_to
from workloads.attacks.mirror import GeneticMirror, GradientMirror, Mirror, MirrorConfig
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.core.randomness import Draws
from workloads.inversion.attack import Access, Reconstructions
from workloads.inversion.genetic_operators import GenerationDraws, crossed, mutated, parents_of
from workloads.inversion.latent_pool import best_starts
from workloads.inversion.optimizers import Adam
from workloads.inversion.p_space import PSpace
from workloads.inversion.rows import Rows
from workloads.inversion.selection import best_of_pool, in_widest_agreement
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle

STEPS, GENERATIONS = 40, 6
TARGET = 2  # of the genetic search
UNTRUNCATED: dict[str, Any] = {"truncation": 1.0}


@pytest.fixture(scope="module")
def findings(case: dict[str, Tensor]) -> State:
    """What `prepare` would have found in the recorded pool: 12 candidates an identity."""
    pool = case["pool"].double()
    starts = best_starts(pool, case["pool_logits"].softmax(1), torch.arange(IDENTITIES), count=12)
    return PSpace(0.2).box(pool, deviations=1.0) | starts


def access(networks: TinyNetworks, oracle: type[LabelOracle], **findings: Any) -> Access[Any]:
    return access_to(oracle(networks.target), OneBlock(networks.style, networks.generator), **findings)


# The pool and the box


@pytest.mark.parametrize(("name", "recorded"), [("lower", "lower"), ("upper", "upper"), ("spread", "p_std")])
def test_the_box_is_the_authors(case: dict[str, Tensor], findings: State, name: str, recorded: str) -> None:
    assert_recorded(findings[name], case[f"box.{recorded}"])


def test_without_a_mapping_the_box_lies_about_the_mean() -> None:
    box = PSpace(1.0).box(torch.tensor([[-3.0], [1.0], [2.0]]), deviations=0.5)
    spread = (14 / 3) ** 0.5  # mean 0
    torch.testing.assert_close(box["lower"], torch.tensor([[-spread / 2]]))
    torch.testing.assert_close(box["upper"], torch.tensor([[spread / 2]]))


def test_starts_are_the_authors(case: dict[str, Tensor]) -> None:
    starts = best_of_pool(case["pool_logits"].softmax(1), torch.tensor([1, 4]), count=4)
    assert torch.equal(starts.flatten(), case["plain.start_indices"])


def test_the_pool_is_scored_as_its_styles_are_searched(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    target = networks.target
    style = networks.style
    config = MirrorConfig(pool=30, restarts=30, truncation=0.7, cutoff=2)
    access_to_style = access_to(WhiteBoxOracle(target), TinyStaged(style))
    findings = GradientMirror(config).prepare(access_to_style, torch.tensor([3]), context=context_at(tmp_path))
    styles = findings["starts"][findings["candidates"][3]][:, None].repeat(1, 4, 1)
    styles[:, :2] = style.w_avg + 0.7 * (styles[:, :2] - style.w_avg)
    images = (style.synthesis(styles)[1] / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(findings["confidences"][3], target(images).softmax(1)[:, 3], rtol=1e-4, atol=1e-6)


# The search by gradients


@dataclass(frozen=True)
class Coins(Rows):
    """Rows that are mirrored at the steps at which the recorded draw was above a half."""

    recorded: Sequence[float] = ()

    def draws(self, *purpose: str | int, images: int = 1) -> Draws:
        draws = super().draws(*purpose)
        return Coin(draws.name, draws.rows, recorded=self.recorded)


@dataclass(frozen=True)
class Coin(Draws):
    """Draws whose eighth number, which decides on mirroring, is below a half where the recorded draw was above it."""

    recorded: Sequence[float] = ()

    def at(self, step: Tensor) -> Draws:
        heads = self.recorded[int(step)] > 0.5
        for throw in range(100):
            candidate = Draws(self.name, self.rows).named(throw).shared()
            if bool((candidate.uniform(10)[:, 7] < 0.5).all()) == heads:
                return candidate
        raise AssertionError("a fair coin shows both sides in a hundred throws")


def searched(
    case: dict[str, Tensor],
    networks: TinyNetworks,
    findings: State,
    run: str,
    fidelity: Literal["fixed", "official"] = "official",
) -> tuple[list[State], Tensor]:
    flip = 0.5 if run == "flip" else 0.0
    config = MirrorConfig(steps=STEPS, flip=flip, fidelity=fidelity, **UNTRUNCATED)
    ranks = torch.arange(4).repeat(2)
    rows = Coins(case[f"{run}.targets"], ranks, key="", recorded=case["flip_draws"].tolist())
    attack, access_to_target = GradientMirror(config), access(networks, WhiteBoxOracle, **findings)
    return follow(attack, access_to_target, attack.start(access_to_target, rows), rows, steps=STEPS)


@pytest.mark.parametrize("run", ["plain", "flip"])
def test_latents_follow_the_authors(case: dict[str, Tensor], networks: TinyNetworks, findings: State, run: str) -> None:
    states, _ = searched(case, networks, findings, run)
    latents = trajectory(states, "latents")
    assert_recorded(latents, case[f"{run}.latents"])


@pytest.mark.parametrize("run", ["plain", "flip"])
def test_the_mean_loss_is_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, run: str
) -> None:
    _, losses = searched(case, networks, findings, run)
    assert_recorded(losses.mean(1) / 10, case[f"{run}.loss"])


@pytest.mark.parametrize("run", ["plain", "flip"])
def test_the_latents_kept_are_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, run: str
) -> None:
    states, _ = searched(case, networks, findings, run)
    assert_recorded(states[-1]["kept"]["best"], case[f"{run}.best_latents"])


@pytest.mark.parametrize("run", ["plain", "flip"])
def test_each_row_keeps_the_latents_whose_own_loss_was_smallest(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, run: str
) -> None:
    states, losses = searched(case, networks, findings, run, "fixed")
    measured = trajectory(states[:-1], "latents")
    expected = measured[losses.argmin(0), torch.arange(8)]
    assert torch.equal(states[-1]["kept"]["best"], expected)


def test_steps_end_in_the_box(case: dict[str, Tensor], networks: TinyNetworks, findings: State) -> None:
    states, _ = searched(case, networks, findings, "plain", "fixed")
    latents = trajectory(states[1:], "latents")
    assert ((latents >= findings["lower"]) & (latents <= findings["upper"])).all()


def test_the_learning_rate_rises_and_falls_as_the_authors(case: dict[str, Tensor]) -> None:
    rule = GradientMirror(MirrorConfig()).descent.rule
    assert isinstance(rule, Adam)
    rates = [rule.lr * rule.schedule(step - 1) for step in case["ramp.step_of_20000"].tolist()]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), case["ramp.lr"], rtol=0.0, atol=1e-12)


# The choice of one candidate


@pytest.mark.parametrize("table", range(10))
def test_the_candidate_chosen_is_the_authors(case: dict[str, Tensor], table: int) -> None:
    identities = torch.full((8,), int(case["pick.target"]))
    chosen = in_widest_agreement(case["pick.logits"][table], identities)
    assert chosen.nonzero().flatten().tolist() == [int(case["pick.chosen"][table])]


def ranked(*names: Sequence[int]) -> Tensor:
    """Logits over 9 classes, of which each row ranks some, from the first."""
    logits = torch.zeros(len(names), 9)
    for row, classes in enumerate(names):
        logits[row, list(classes)] = torch.arange(9.0, 9 - len(classes), -1)
    return logits


def test_one_label_in_common_counts_where_no_two_are() -> None:
    logits = ranked((0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 1, 5, 6, 7))
    # the last two rows share 5, 6 and 7
    assert in_widest_agreement(logits, torch.zeros(3, dtype=torch.long)).tolist() == [False, True, False]


def test_identities_are_chosen_for_each_by_itself() -> None:
    logits = ranked((0, 1, 2, 3, 4), (5, 1, 2, 3, 4), (0, 1, 2, 3, 4), (5, 1, 2, 3, 4))
    logits[2, 0] += 1
    logits[3, 5] += 1
    assert in_widest_agreement(logits, torch.tensor([0, 5, 0, 5])).tolist() == [False, False, True, True]


def test_two_classes_have_a_next_label_to_agree_on() -> None:
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert in_widest_agreement(logits, torch.zeros(2, dtype=torch.long)).tolist() == [False, True]


# The genetic search


def recorded_draws(case: dict[str, Tensor], generation: int) -> GenerationDraws:
    uniform = {name: case[f"genetic.{name}_draws"][generation].double()[None] for name in ("parent", "crossover")}
    masks, sizes = (case[f"genetic.mutation_{name}_draws"][generation].double()[None] for name in ("mask", "size"))
    return GenerationDraws(uniform["parent"].unflatten(1, (2, 11)), uniform["crossover"], masks, sizes)


def bred(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, monkeypatch: pytest.MonkeyPatch
) -> list[State]:
    """The authors' populations, from the recorded draws."""
    config = MirrorConfig(search="genetic", population=12, steps=GENERATIONS, fidelity="official", **UNTRUNCATED)
    attack, access_to_scores = GeneticMirror(config), access(networks, ScoreOracle, **findings)
    rows = Rows(torch.tensor([TARGET]), torch.tensor([0]), key="")
    states = [attack.begin(access_to_scores, rows)]
    for generation in range(GENERATIONS):
        draws = recorded_draws(case, generation)
        monkeypatch.setattr(GenerationDraws, "of", staticmethod(lambda *_, draws=draws, **__: draws))
        states.append(attack.advance(access_to_scores, states[-1], rows, generation)[0])
    return states


def test_populations_are_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = bred(case, networks, findings, monkeypatch)
    populations = torch.cat([state["population"] for state in states])
    assert_recorded(populations, case["genetic.sorted_population"])


def test_log_probabilities_are_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = bred(case, networks, findings, monkeypatch)
    fitness = torch.cat([state["fitness"] for state in states]).log()
    assert_recorded(fitness, case["genetic.sorted_fitness"])


def test_the_elite_is_the_authors(
    case: dict[str, Tensor], networks: TinyNetworks, findings: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    elite = GeneticMirror(MirrorConfig(search="genetic")).outcome(bred(case, networks, findings, monkeypatch)[-1])
    assert_recorded(elite["elite"][0], case["genetic.final"])


@pytest.mark.parametrize("generation", range(GENERATIONS))
def test_parents_are_the_authors(case: dict[str, Tensor], generation: int) -> None:
    fitness = case["genetic.sorted_fitness"][generation].exp()[None]
    parents = parents_of(fitness, recorded_draws(case, generation).parents)
    assert torch.equal(parents.flatten(), case["genetic.parents"][generation])


def pair(crossover: float) -> tuple[Tensor, Tensor, GenerationDraws]:
    """Two members, of which the first is 9 times as fit, and draws that make them the parents of one child."""
    population = torch.tensor([[[1.0] * 4, [2.0] * 4]])
    draws = GenerationDraws(
        torch.tensor([[[0.0], [0.95]]]), torch.full((1, 1, 4), crossover), torch.ones(1, 1, 4), torch.ones(1)
    )
    return population, torch.tensor([[0.9, 0.1]]), draws


def test_the_fitter_parent_gives_nine_genes_in_ten() -> None:
    assert crossed(*pair(0.899)).tolist() == [[[1.0] * 4]]
    assert crossed(*pair(0.901)).tolist() == [[[2.0] * 4]]


def test_weighed_as_by_the_authors_the_fitter_parent_gives_one_gene_in_23() -> None:
    # log 0.9 / (log 0.9 + log 0.1) = 0.0438
    assert crossed(*pair(0.043), worse_first=True).tolist() == [[[1.0] * 4]]
    assert crossed(*pair(0.045), worse_first=True).tolist() == [[[2.0] * 4]]


def test_a_population_without_any_fitness_still_has_parents() -> None:
    parents = parents_of(torch.zeros(1, 4), torch.tensor([[0.1, 0.3, 0.6, 0.9]]))
    assert parents.tolist() == [[0, 1, 2, 3]]


def test_a_gene_moves_by_its_reach_at_most() -> None:
    draws = GenerationDraws(
        torch.zeros(0), torch.zeros(0), torch.tensor([0.05, 0.05, 0.15]), torch.tensor([0.0, 0.75, 0.0])
    )
    children = mutated(torch.zeros(3), draws, probability=0.1, reach=torch.tensor([2.0, 2.0, 2.0]))
    assert children.tolist() == [-2.0, 1.0, 0.0]


# The whole attack, in float32 as a job runs it.

SMALL: dict[str, dict[str, Any]] = {
    "gradient": {"pool": 40, "restarts": 3, "steps": 20},
    "genetic": {"search": "genetic", "pool": 40, "population": 6, "steps": 20, "stop_at": 0.9999},
}


def attacked(folder: Path, search: str, *, lost_at: int | None = None, **settings: Any) -> Reconstructions:
    config = MirrorConfig(**SMALL[search] | settings)
    networks = golden_networks(torch.float32)
    access_to_style = access_to(Mirror(config).oracle_type(networks.target), TinyStaged(networks.style))
    return Mirror(config).run(access_to_style, torch.arange(IDENTITIES), context=context_at(folder, stop_at=lost_at))


@pytest.mark.parametrize("search", SMALL)
def test_rows_do_not_depend_on_which_others_share_their_batch(tmp_path: Path, search: str) -> None:
    together, alone = (attacked(tmp_path / str(rows), search, chunk_rows=rows) for rows in (16, 1))
    # 10 x 2.2e-6, the drift of the authors' own code in float32 over twice as many steps
    torch.testing.assert_close(alone.latents, together.latents, rtol=0.0, atol=3e-5)


@pytest.mark.parametrize(("search", "chunk_rows"), [("gradient", 9), ("genetic", 3)])  # two chunks each
def test_a_resumed_attack_ends_with_the_same_bits(tmp_path: Path, search: str, chunk_rows: int) -> None:
    undisturbed = attacked(tmp_path / "undisturbed", search, chunk_rows=chunk_rows, steps=40)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "interrupted", search, chunk_rows=chunk_rows, steps=40, lost_at=65)
    resumed = attacked(tmp_path / "interrupted", search, chunk_rows=chunk_rows, steps=40)
    assert torch.equal(resumed.images, undisturbed.images)
    assert torch.equal(resumed.kept, undisturbed.kept)
    assert resumed.queries == undisturbed.queries


def test_every_image_shown_to_the_gradient_search_is_counted(tmp_path: Path) -> None:
    # the pool, 18 rows x 20 steps, and 18 candidates twice: for their score and for their labels
    assert attacked(tmp_path, "gradient").queries == 40 + 18 * 20 + 18 + 18


def test_every_image_shown_to_the_genetic_search_is_counted(tmp_path: Path) -> None:
    # the pool, 5 children of 6 identities in 20 generations, and 6 elites
    assert attacked(tmp_path, "genetic").queries == 40 + 5 * 6 * 20 + 6


def test_a_population_that_has_done_enough_ends(tmp_path: Path) -> None:
    # any image reaches so little: each population is bred once
    reconstructions = attacked(tmp_path, "genetic", stop_at=1e-6)
    assert reconstructions.latent_steps == 6
    assert reconstructions.queries == 40 + 5 * 6 + 6


def test_breeding_never_loses_the_best_of_the_pool(tmp_path: Path) -> None:
    once, often = (attacked(tmp_path / str(steps), "genetic", steps=steps) for steps in (1, 20))
    assert (often.scores >= once.scores - 1e-6).all()


def test_breeding_finds_more_than_the_pool_has(tmp_path: Path) -> None:
    once, often = (attacked(tmp_path / str(steps), "genetic", steps=steps) for steps in (1, 60))
    assert often.scores.mean() > once.scores.mean() + 0.01


def test_one_of_each_identity_is_kept(tmp_path: Path) -> None:
    reconstructions = attacked(tmp_path, "gradient")
    assert reconstructions.identities[reconstructions.kept].tolist() == list(range(IDENTITIES))


def test_a_prior_without_styles_is_searched_in_a_box_about_its_latents(tmp_path: Path) -> None:
    networks = golden_networks(torch.float32)
    access_to_target = access_to(WhiteBoxOracle(networks.target), networks.prior())
    attack = GradientMirror(MirrorConfig(pool=400, restarts=2))
    findings = attack.prepare(access_to_target, torch.tensor([0]), context=context_at(tmp_path))
    # mean and deviation of 400 normal numbers err by 0.05 and 0.04
    torch.testing.assert_close(findings["upper"], torch.ones(1, 8), rtol=0.0, atol=0.2)


# Settings


def test_the_threat_model_depends_on_the_search() -> None:
    gradient, genetic = MirrorConfig(), MirrorConfig(search="genetic")
    assert (Mirror(gradient).oracle_type, Mirror(genetic).oracle_type) == (WhiteBoxOracle, ScoreOracle)
    assert (Mirror(gradient).protocol()["access"], Mirror(genetic).protocol()["access"]) == ("white box", "scores")


def test_a_genetic_search_begins_with_settings_of_its_own() -> None:
    config = MirrorConfig.model_validate_json('{"kind": "mirror", "search": "genetic", "steps": 7}')
    assert (config.restarts, config.steps, config.starts) == (1, 7, 1000)


def test_a_population_larger_than_the_pool_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a pool of 100 has no 1000 different starts"):
        MirrorConfig(search="genetic", pool=100)


def test_a_prior_whose_images_depend_on_the_identity_is_refused() -> None:
    prior = golden_networks().conditional_prior()
    with pytest.raises(ConfigError, match="depend on the identity"):
        Mirror(MirrorConfig()).check(prior=prior, classes=6)
