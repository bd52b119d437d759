"""Attacks that begin in a pool, through a whole sweep with a plain prior."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.toy import numbers, toy_sweep

SMALL: dict[str, Any] = {"pool": 10, "steps": 3}
ATTACKS = [
    {"kind": "ppa", "restarts": 3, "keep": 2, "selection_views": 2, **SMALL},
    {"kind": "mirror", "restarts": 2, **SMALL},
    {"kind": "mirror", "name": "bred", "search": "genetic", "population": 4, **SMALL},
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("pooled")
    search = {"objectives": [{"metric": "natural_accuracy", "goal": "max"}], "seeds": [0], "baseline": False}
    sweep = toy_sweep(folder, folder / "runs", attacks=ATTACKS, search=search)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def test_every_attack_ends_with_every_number(sweep: Sweep) -> None:
    (metrics,) = numbers(sweep).values()
    judged = {f"{label}.{name}" for label in ("ppa", "mirror", "bred") for name in ("attack_accuracy", "knn_distance")}
    assert set(metrics) == judged | {"natural_accuracy"}


def test_what_an_attack_was_given_of_the_target_stands_beside_its_numbers(sweep: Sweep) -> None:
    (trial,) = sweep.result().trials
    assert {label: result.protocol["access"] for label, result in trial.attacks.items()} == {
        "ppa": "white box",
        "mirror": "white box",
        "bred": "scores",
    }


def test_queries_are_those_of_the_pool_the_search_and_the_selection(sweep: Sweep) -> None:
    (trial,) = sweep.result().trials
    assert {label: result.protocol["queries"] for label, result in trial.attacks.items()} == {
        "ppa": 2 * 10 + 6 * 3 + 6 * 2,
        "mirror": 10 + 4 * 3 + 2 * 4,
        "bred": 10 + 2 * 3 * 3 + 2,
    }
