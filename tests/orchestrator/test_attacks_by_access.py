"""A whole sweep with attacks that know labels, scores, or the network but no prior."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.toy import numbers, toy_sweep

ATTACKS: list[dict[str, Any]] = [
    {"kind": "brepmi", "steps": 10, "patience": 5, "draws": 256},
    {"kind": "rlbmi", "steps": 12, "batch": 8, "hidden": 8},
    {"kind": "vmi", "steps": 2, "samples": 2, "draws": 3, "keep": 3, "blocks": 2},
    {"kind": "deepinversion", "steps": 2, "images": 3, "keep": 3},
]
ACCESS = {"brepmi": "labels only", "rlbmi": "scores", "vmi": "white box", "deepinversion": "white box"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("access")
    search = {"objectives": [{"metric": "natural_accuracy", "goal": "max"}]}
    sweep = toy_sweep(folder, folder / "runs", attacks=ATTACKS, defenses=[], search=search)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def test_every_attack_yields_every_number(sweep: Sweep) -> None:
    judged = {f"{kind}.{metric}" for kind in ACCESS for metric in ("attack_accuracy", "knn_distance")}
    for metrics in numbers(sweep).values():
        assert set(metrics) == {"natural_accuracy"} | judged


@pytest.mark.parametrize("kind", ACCESS)
def test_an_attack_says_what_it_knew(sweep: Sweep, kind: str) -> None:
    job = next(plan.keys.attacks[kind].first.attack for plan in sweep.plans())
    (protocol,) = [file for file in Path(sweep.store.root).rglob("protocol.json") if job in str(file)]
    assert json.loads(protocol.read_text())["access"] == ACCESS[kind]


def test_an_attack_without_a_prior_waits_for_none(sweep: Sweep) -> None:
    plan = sweep.plans()[0]
    job = plan.job(plan.keys.attacks["deepinversion"].first.attack)
    assert set(job.inputs) == {"target"}
