"""What stands beside each attack: samples of its prior and public images to beat, and real images as the ceiling."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from orchestrator.executors.inline import InlineExecutor
from orchestrator.planning.graph import TrialPlan
from orchestrator.reports.findings import findings
from orchestrator.sweep import Sweep
from tests.support.toy import TOY, toy_sweep
from workloads.datasets.base import DATASETS


def planned(folder: Path, **changes: Any) -> TrialPlan:
    return toy_sweep(folder, folder / "runs", floors=True, **changes).plans()[0]


def test_floors_take_as_many_samples_as_the_attack_has_starts(tmp_path: Path) -> None:
    plan = planned(tmp_path, attacks=[{**TOY["attacks"][0], "restarts": 7, "keep": 3}])
    draw = plan.keys.attacks["gmi"].first
    null = plan.job(draw.floors["null"].images)
    assert (null.config["attack"]["kind"], null.config["attack"]["restarts"], null.config["attack"]["keep"]) == (
        "null",
        7,
        3,
    )
    assert null.inputs == {"target": plan.keys.target, "null.prior": draw.members["gmi"].prior}
    public = plan.job(draw.floors["nearest_public"].images)
    assert public.inputs == {"target": plan.keys.target}


def test_all_are_judged_by_the_same_judges_by_metrics_of_single_images(tmp_path: Path) -> None:
    metrics = [{"kind": kind} for kind in ("natural_accuracy", "attack_accuracy", "feature_space")]
    evaluation = {**TOY["evaluation"], "seeds": [0, 1]}
    attacks = [{**TOY["attacks"][0], "restarts": 4, "keep": 4}]
    plan = planned(tmp_path, metrics=metrics, evaluation=evaluation, attacks=attacks)
    attack = plan.keys.attacks["gmi"]
    assert attack.ceiling is not None
    for judged in (attack.first.floors["null"].judged, attack.ceiling.judged):
        jobs = [plan.job(key) for key in judged]
        assert [job.inputs["evaluation"] for job in jobs] == [judge.model for judge in plan.keys.judges]
        assert [[metric["kind"] for metric in job.config["metrics"]] for job in jobs] == [["attack_accuracy"]] * 2


def test_attacks_with_the_same_prior_and_starts_share_them(tmp_path: Path) -> None:
    gmi = TOY["attacks"][0]
    plan = planned(tmp_path, attacks=[gmi, {**gmi, "name": "longer", "steps": 5}])
    first, second = (plan.keys.attacks[name].first.floors for name in ("gmi", "longer"))
    assert first == second
    assert set(plan.keys.named().values()) == {job.key for job in plan.jobs}


def test_an_attack_without_a_prior_has_public_images_alone_and_a_floor_has_none(tmp_path: Path) -> None:
    objectives = [{"metric": "natural_accuracy", "goal": "max"}]
    attacks = [{"kind": "deepinversion", "steps": 1}, {"kind": "nearest_public"}]
    plan = planned(tmp_path, attacks=attacks, search={**TOY["search"], "objectives": objectives})
    assert list(plan.keys.attacks["deepinversion"].first.floors) == ["nearest_public"]
    alone = plan.keys.attacks["nearest_public"]
    assert (alone.first.floors, alone.ceiling) == ({}, None)


def test_without_floors_nothing_of_it_is_planned(tmp_path: Path) -> None:
    plan = toy_sweep(tmp_path, tmp_path / "runs", floors=False).plans()[0]
    assert "real_images" not in Counter(job.kind for job in plan.jobs)


def swept(folder: Path, **changes: Any) -> Sweep:
    sweep = toy_sweep(folder, folder / "runs", floors=True, **changes)
    sweep.run(InlineExecutor(), spec_file=None)
    return sweep


def test_real_images_are_those_held_out_and_floors_are_of_the_public(tmp_path: Path) -> None:
    colour = {side: {**TOY["data"][side], "channels": 3} for side in ("private", "public")}
    sweep = swept(tmp_path, data=colour)
    plan, data = sweep.plans()[0], sweep.resolved.spec.data
    attack = plan.keys.attacks["gmi"]
    assert attack.ceiling is not None
    real = load_file(sweep.store.open(attack.ceiling.images) / "reconstructions.safetensors")
    _, held_out = DATASETS.build(data.private).load().split(data.split)
    assert torch.equal(real["images"].mul(255).round().to(torch.uint8), held_out.images)
    assert torch.equal(real["identities"], held_out.identities)
    near = load_file(sweep.store.open(attack.first.floors["nearest_public"].images) / "reconstructions.safetensors")
    public = DATASETS.build(data.public).load().images
    for image in near["images"].mul(255).round().to(torch.uint8):
        assert (public == image).flatten(1).all(1).any()


def test_numbers_stand_on_their_scale_in_tables_and_summary_and_a_weak_attack_is_said_to_be_one(tmp_path: Path) -> None:
    """Toy networks recognise nobody: an attack of three steps beats no floor."""
    sweep = swept(tmp_path)
    result = sweep.result()
    attack = result.trials[0].attacks["gmi"]
    floors = {name: draws[0].estimates["attack_accuracy"]["value"] for name, draws in attack.floors.items()}
    scale = result.scale(result.trials[0], "gmi.attack_accuracy")
    assert (scale.floor, scale.ceiling) == (
        max(floors.values()),
        attack.ceiling[0].estimates["attack_accuracy"]["value"],
    )
    distances = [draws[0].estimates["knn_distance"]["value"] for draws in attack.floors.values()]
    assert result.scale(result.trials[0], "gmi.knn_distance").floor == min(distances)
    shape = sweep.publish(result, seconds=1.0, jobs={})
    assert shape["trials"][0]["attacks"]["gmi"]["attack_accuracy"]["floor"] == scale.floor
    assert json.loads(sweep.paths.summary.read_text())["trials"][0]["attacks"]["gmi"]["attack_accuracy"]["ceiling"]
    text = " ".join(findings(result))
    assert "This sweep says nothing of what a defense buys against gmi: without any" in text
    assert "It helps" not in text
