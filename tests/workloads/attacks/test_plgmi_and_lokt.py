"""PLG-MI and LOKT as jobs run them: random views, rows, queries, refused priors, what a label-only attacker asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.golden_networks import IDENTITIES, golden_networks
from tests.support.interruptions import Interrupted, context_at
from tests.support.toy import numbers, toy_sweep
from workloads.attacks.lokt import Lokt, LoktConfig
from workloads.attacks.plgmi import Plgmi, PlgmiConfig
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Reconstructions
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.base import PRIORS, Prior, PriorConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.tacgan import TacganConfig
from workloads.priors.wgan_gp import WganGpConfig

CPU = torch.device("cpu")
EVERYONE = torch.arange(IDENTITIES)
STEPS = 10


def attacked(folder: Path, *, stop_after: int | None = None, **settings: Any) -> Reconstructions:
    """PLG-MI with its own random views."""
    networks = golden_networks(torch.float32)
    prior = networks.conditional_prior()
    target = networks.target
    attack = Plgmi(PlgmiConfig(**{"steps": STEPS, **settings}))
    access = Access(WhiteBoxOracle(target), CPU, prior=prior)
    return attack.run(access, EVERYONE, context=context_at(folder, stop_after=stop_after))


# PLG-MI


@pytest.mark.parametrize("chunk_rows", [1, 7])
def test_a_row_does_not_depend_on_its_chunk(tmp_path: Path, chunk_rows: int) -> None:
    undisturbed = attacked(tmp_path / "whole")
    parts = attacked(tmp_path / "parts", chunk_rows=chunk_rows)
    # The authors' own code drifts by 2e-6 in float32 on this case; Adam blows that up where gradients are tiny.
    torch.testing.assert_close(parts.latents, undisturbed.latents, rtol=0.0, atol=2e-4)


def test_a_resumed_search_ends_with_the_same_bits(tmp_path: Path) -> None:
    unsplit = attacked(tmp_path / "whole", chunk_rows=9)
    with pytest.raises(Interrupted):
        attacked(tmp_path / "parts", chunk_rows=9, stop_after=15)
    parts = attacked(tmp_path / "parts", chunk_rows=9)
    assert torch.equal(parts.latents, unsplit.latents)
    assert torch.equal(parts.images, unsplit.images)
    assert parts.queries == unsplit.queries


def test_both_views_of_every_step_and_every_final_image_are_counted(tmp_path: Path) -> None:
    assert attacked(tmp_path).queries == 30 * STEPS * 2 + 30


def test_all_five_restarts_of_an_identity_are_kept(tmp_path: Path) -> None:
    assert attacked(tmp_path, steps=1).kept.tolist() == [True] * 30


def test_the_target_is_shown_as_many_and_such_views_as_asked_for() -> None:
    anything: Any = None
    view = ViewConfig(scale=(0.5, 1.0), draws="per_batch")
    assert Plgmi(PlgmiConfig(view=view, views=3)).views(anything) == (RandomView(view),) * 3


def test_the_protocol_says_how_the_search_was_done() -> None:
    protocol = Plgmi(PlgmiConfig()).protocol()
    wanted = {"access": "white box", "steps": 600, "made": 5, "kept": 5, "selection": "all"}
    assert protocol.items() >= (wanted | {"objective": "margin", "views": 2, "batch_reference": 60}).items()


# Priors that are refused


def built(config: PriorConfig) -> Prior:
    with torch.device("meta"):
        return PRIORS.build(config, channels=3, image_size=32, classes=IDENTITIES)


@pytest.mark.parametrize(
    ("attack", "usual"), [(Plgmi(PlgmiConfig()), "plg_gan"), (Lokt(LoktConfig()), "tacgan")], ids=["plgmi", "lokt"]
)
def test_a_prior_that_knows_no_class_is_refused_with_the_way_out(attack: Plgmi | Lokt, usual: str) -> None:
    kind = attack.config.kind
    with pytest.raises(ConfigError, match=f"{kind} searches inside a class, .* wgan_gp .* use kind: {usual}, or leave"):
        attack.check(prior=built(WganGpConfig()), classes=IDENTITIES)


def test_a_label_only_attack_refuses_a_prior_that_looked_inside_the_target() -> None:
    with pytest.raises(
        ConfigError, match=r"plg_gan asks the target model for more \(white box\) than lokt may \(labels"
    ):
        Lokt(LoktConfig()).check(prior=built(PlgGanConfig()), classes=IDENTITIES)


def test_an_attack_may_use_a_prior_that_asked_for_less_than_it_may() -> None:
    Plgmi(PlgmiConfig()).check(prior=built(TacganConfig()), classes=IDENTITIES)


# LOKT


class Watched:
    """A target model behind an interface that takes images, notes how many, and cannot be backpropagated through."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self._network = golden_networks(torch.float32).target

    def __call__(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert ((images >= 0) & (images <= 1)).all()
        self.shown.append(len(images))
        return self._network(images)


def label_only(target: Watched) -> Access[LabelOracle]:
    networks = golden_networks(torch.float32)
    return Access(LabelOracle(target), CPU, prior=networks.conditional_prior(), surrogates=networks.surrogates())


def test_the_target_is_asked_for_the_labels_of_the_final_images_alone(tmp_path: Path) -> None:
    target = Watched()
    reconstructions = Lokt(LoktConfig(steps=STEPS)).run(label_only(target), EVERYONE, context=context_at(tmp_path))
    assert target.shown == [30]
    assert reconstructions.queries == 30


def test_the_score_of_an_image_is_whether_the_target_names_its_identity(tmp_path: Path) -> None:
    reconstructions = Lokt(LoktConfig(steps=STEPS)).run(label_only(Watched()), EVERYONE, context=context_at(tmp_path))
    named = golden_networks(torch.float32).target(reconstructions.images).argmax(1)
    assert torch.equal(reconstructions.scores, (named == reconstructions.identities).float())


def test_lokts_oracle_has_nothing_but_labels() -> None:
    assert Lokt.oracle is LabelOracle
    oracle = LabelOracle(Watched())
    assert [name for name in ("probabilities", "logits", "target_model", "original") if hasattr(oracle, name)] == []


def test_the_loss_is_the_mean_of_the_surrogates_margins() -> None:
    access = label_only(Watched())
    images = torch.rand(IDENTITIES, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    margins = []
    for surrogate in access.surrogates:
        logits = surrogate(images).numpy()
        of_identity = logits.diagonal().copy()
        np.fill_diagonal(logits, -np.inf)
        margins.append(logits.max(1) - of_identity)
    losses = Lokt(LoktConfig()).objective.losses(access, images, EVERYONE)
    np.testing.assert_allclose(losses.numpy(), np.mean(margins, axis=0), rtol=1e-5, atol=1e-6)


def test_the_search_lowers_the_surrogates_loss(tmp_path: Path) -> None:
    attacks = [Lokt(LoktConfig(steps=steps, view=ViewConfig())) for steps in (1, 40)]
    few, many = (attack.run(label_only(Watched()), EVERYONE, context=context_at(tmp_path)) for attack in attacks)
    attack, access = Lokt(LoktConfig()), label_only(Watched())
    before, after = (
        attack.objective.losses(access, reconstructions.images, reconstructions.identities)
        for reconstructions in (few, many)
    )
    assert (after < before).all()


def test_lokt_learns_labels_by_three_densenets_unless_told_otherwise() -> None:
    surrogates = LoktConfig().surrogates
    assert [surrogate.model.label for surrogate in surrogates] == ["densenet121", "densenet161", "densenet169"]
    assert {(surrogate.answers, surrogate.generated_per_class) for surrogate in surrogates} == {("labels", 500)}


# Both in a sweep


PLGMI = {
    **{"kind": "plgmi", "steps": 3, "restarts": 2, "keep": 2},
    "prior": {"kind": "plg_gan", "width": 2, "steps": 10, "batch_size": 8, "images_per_class": 5},
}
LOKT = {
    **{"kind": "lokt", "steps": 3, "restarts": 2, "keep": 2, "generated_per_class": 6},
    "prior": {"kind": "tacgan", "width": 2, "steps": 10, "batch_size": 8},
    "surrogate_models": [{"kind": "small_cnn", "width": 2, "stages": 2}],
    "surrogate_training": {"epochs": 1, "batch_size": 4},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    search = {"baseline": False, "objectives": [{"metric": "natural_accuracy", "goal": "max"}]}
    sweep = toy_sweep(folder, folder / "runs", attacks=[PLGMI, LOKT], search=search, prior=None)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def protocol(sweep: Sweep, attack: str) -> dict[str, Any]:
    (plan,) = sweep.plans()
    protocol: dict[str, Any] = sweep.store.read_json(plan.keys.attacks[attack].first.attack, "protocol.json")
    return protocol


def test_a_sweep_of_both_attacks_finishes_with_all_numbers(sweep: Sweep) -> None:
    (metrics,) = numbers(sweep).values()
    judged = {f"{attack}.{name}" for attack in ("plgmi", "lokt") for name in ("attack_accuracy", "knn_distance")}
    assert set(metrics) == judged | {"natural_accuracy"}


@pytest.mark.parametrize(
    ("attack", "before", "during"),
    [
        # 40 public images are labelled, and the generator shows 8 at each of its 2 steps; 4 rows see 2 views 3 times.
        ("plgmi", 40 + 2 * 8, 4 * 3 * 2 + 4),
        # 8 made images at each of 9 critic steps after warm-up, and 6 of 2 classes for the surrogate; 4 final images.
        ("lokt", 9 * 8 + 2 * 6, 4),
    ],
)
def test_a_sweep_counts_every_query(sweep: Sweep, attack: str, before: int, during: int) -> None:
    counted = protocol(sweep, attack)
    assert (counted["queries_before"], counted["queries"]) == (before, before + during)


def test_small_networks_can_stand_for_the_densenets() -> None:
    config = LoktConfig.model_validate_json(json.dumps(LOKT))
    assert [surrogate.model for surrogate in config.surrogates] == [SmallCnnConfig(width=2, stages=2)]
