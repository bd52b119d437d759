"""The battery: its attacks are those that stand alone, the target model picks, the union is never below one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.golden_networks import golden_networks
from tests.support.interruptions import context_at
from tests.support.toy import TOY, toy_sweep
from workloads.attacks.battery import Battery, BatteryConfig
from workloads.attacks.erasing_aware import ErasingAwareConfig
from workloads.attacks.gmi import GmiConfig
from workloads.defenses.random_erasing import RandomErasingConfig
from workloads.inversion.attack import ATTACKS, Access, Part, Reconstructions
from workloads.metrics.attack_accuracy import AttackAccuracy, AttackAccuracyConfig
from workloads.metrics.base import Tried
from workloads.observation.oracles import WhiteBoxOracle

CPU = torch.device("cpu")
GMI = {"kind": "gmi", "steps": 2, "restarts": 3, "keep": 2}
LONGER = {**GMI, "name": "longer", "steps": 5, "keep": 1}
HOST = GmiConfig(restarts=2, steps=4)
FIRST, SECOND = HOST.model_copy(update={"name": "first", "keep": 2}), HOST.model_copy(update={"name": "second"})


def part_of(label: str, images: Tensor, *, seed: int, queries: int) -> Part:
    """Two reconstructions of each of three people."""
    identities = torch.arange(3).repeat_interleave(2)
    return Part(label, images, identities, torch.tensor([0, 1] * 3), queries=queries, latent_steps=seed)


def picked(folder: Path, *, keep: int = 1, views: int = 3) -> Reconstructions:
    parts = tuple(
        part_of(name, torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed)), seed=seed, queries=7)
        for seed, name in enumerate(("first", "second"), start=1)
    )
    target = golden_networks(torch.float32).target
    access = Access(WhiteBoxOracle(target), CPU, channels=3, image_size=8, parts=parts)
    config = BatteryConfig(attacks=(FIRST, SECOND), keep=keep, views=views)
    return Battery(config).run(access, torch.arange(3), context=context_at(folder))


def test_of_each_person_the_most_convincing_reconstruction_of_any_attack_is_picked(tmp_path: Path) -> None:
    battery = picked(tmp_path)
    assert battery.parts is not None and battery.parts.tolist() == [0] * 6 + [1] * 6
    assert battery.identities[battery.kept].tolist() == [0, 1, 2] or sorted(battery.identities[battery.kept]) == [
        0,
        1,
        2,
    ]
    for person in range(3):
        of_person = battery.identities == person
        assert battery.scores[of_person & battery.kept].tolist() == [battery.scores[of_person].max()]


def test_all_that_was_rebuilt_stays_and_every_view_of_it_is_a_query(tmp_path: Path) -> None:
    battery = picked(tmp_path, keep=2, views=5)
    assert len(battery.images) == 12 and battery.kept.sum() == 6
    assert battery.queries == 12 * 5, "those of its attacks are added by the job"
    assert battery.latent_steps == 1 + 2
    assert battery.facts == {"rebuilt_by": ["first", "second"]}


def test_whoever_is_recognised_in_anything_that_was_tried_counts() -> None:
    tried = Tried(
        torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), torch.tensor([0, 0, 1, 2])
    )

    class Evidence:
        logits, identities = torch.zeros(3, 3), torch.tensor([0, 1, 2])

    evidence: Any = Evidence()
    evidence.tried = tried
    rows = AttackAccuracy(AttackAccuracyConfig()).rows(evidence)
    assert rows["attack_accuracy_any"].tolist() == [1.0, 0.0, 0.0]  # of the second and third nothing is named right


def test_the_union_is_a_number_of_batteries_alone() -> None:
    metric = AttackAccuracy(AttackAccuracyConfig())
    assert metric.names_for(HOST, 5) == ("attack_accuracy",)
    assert metric.names_for(BatteryConfig(attacks=(FIRST, SECOND)), 5) == ("attack_accuracy", "attack_accuracy_any")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two attacks alone and together, judged by two judges."""
    folder = tmp_path_factory.mktemp("battery")
    evaluation = {**TOY["evaluation"], "seeds": [0, 1]}
    attacks = [GMI, LONGER, {"kind": "battery", "views": 2, "attacks": [GMI, LONGER]}]
    search = {"space": {}, "seeds": [0, 1], "baseline": False}
    sweep = toy_sweep(folder, folder / "runs", attacks=attacks, evaluation=evaluation, search=search)
    counts = sweep.run(InlineExecutor(), spec_file=None)
    assert counts.trials_failed == 0
    return sweep


def test_an_attack_that_stands_alone_too_runs_once(finished: Sweep) -> None:
    for plan in finished.plans():
        attacks = plan.keys.attacks
        parts = attacks["battery"].first.members
        assert {label: part.attack for label, part in parts.items()} == {
            "gmi": attacks["gmi"].first.attack,
            "longer": attacks["longer"].first.attack,
        }


def test_the_union_is_never_below_one_of_its_attacks_by_any_judge(finished: Sweep) -> None:
    compared = 0
    for plan in finished.plans():
        keys = plan.keys.attacks
        for judge in range(2):
            numbers = {label: _accuracies(finished, attack.first.judged[judge]) for label, attack in keys.items()}
            union = numbers["battery"]["attack_accuracy_any"]
            assert union >= max(numbers[label]["attack_accuracy"] for label in ("gmi", "longer"))
            assert union >= numbers["battery"]["attack_accuracy"]
            compared += 1
    assert compared == 4


def test_its_queries_are_those_of_its_attacks_and_of_its_views(finished: Sweep) -> None:
    for plan in finished.plans():
        protocols = {
            label: finished.store.read_json(attack.first.attack, "protocol.json")
            for label, attack in plan.keys.attacks.items()
        }
        people = protocols["battery"]["identities"]
        of_parts = protocols["gmi"]["queries"] + protocols["longer"]["queries"]
        assert protocols["battery"]["queries"] == of_parts + people * (2 + 1) * 2


def _accuracies(sweep: Sweep, key: str) -> dict[str, float]:
    estimates = sweep.store.read_json(key, "metrics.json")["estimates"]
    return {name: estimate["value"] for name, estimate in estimates.items()}


def test_the_defense_reaches_every_attack_and_equals_are_run_once() -> None:
    config = BatteryConfig(attacks=(HOST, ErasingAwareConfig(host=HOST)))
    knowing, unaware = config.against([RandomErasingConfig()]), config.against([])
    assert isinstance(knowing, BatteryConfig) and isinstance(unaware, BatteryConfig)
    assert [attack.kind for attack in knowing.attacks] == ["gmi", "erasing_aware"]
    assert [attack.kind for attack in unaware.attacks] == ["gmi"]


def test_its_people_are_attacked_whomever_its_attacks_name() -> None:
    config = BatteryConfig(
        attacks=(HOST.model_copy(update={"identities": 2}), ErasingAwareConfig(host=HOST)), identities=5
    )
    assert [part.identities for part in config.parts()] == [5, 5]


def test_a_battery_in_a_battery_is_refused() -> None:
    inner = BatteryConfig(attacks=(FIRST, SECOND))
    with pytest.raises(ValueError, match="a battery holds no battery: list its attacks"):
        BatteryConfig(attacks=(FIRST, inner))


def test_two_attacks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'gmi' is there already: give it a name of its own"):
        BatteryConfig(attacks=(HOST, HOST))


def test_the_protocol_names_every_attack() -> None:
    protocol = ATTACKS.build(BatteryConfig(attacks=(FIRST, SECOND))).protocol()
    assert (protocol["access"], protocol["steps"], len(protocol["attacks"])) == ("white box", 8, 2)
