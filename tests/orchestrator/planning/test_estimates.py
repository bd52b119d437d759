"""Shapes of jobs, and the memory that is expected of those that nobody has run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.planning.estimates import Cost, Estimator
from orchestrator.planning.graph import PlannedJob, TrialPlan
from tests.support.toy import toy_sweep
from workloads.core.memory import GIB, kept_for_backward, weight_bytes
from workloads.models.vgg16_bn import Vgg16BnConfig
from workloads.training.classifiers import Architecture


def jobs_by_kind(plan: TrialPlan) -> dict[str, list[PlannedJob]]:
    return {job.kind: [same for same in plan.jobs if same.kind == job.kind] for job in plan.jobs}


def test_trials_that_differ_in_areas_and_seeds_have_jobs_of_the_same_shapes(tmp_path: Path) -> None:
    search = {"space": {"defenses.0.max_area": {"kind": "choice", "values": [0.3, 0.6]}}, "seeds": [0, 1]}
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={**search, "baseline": False})
    plans = sweep.plans()
    assert len(plans) == 4
    assert len({plan.keys.target for plan in plans}) == 4
    assert len({tuple(job.shape for job in plan.jobs) for plan in plans}) == 1


def test_an_attack_on_a_wider_network_has_another_shape(tmp_path: Path) -> None:
    shapes = set()
    for width in (2, 4):
        target = {"model": {"kind": "small_cnn", "width": width, "stages": 2}, "training": {"epochs": 1}}
        plan = toy_sweep(tmp_path, tmp_path / "runs", target=target).plans()[0]
        shapes.add(plan.job(plan.keys.attacks["gmi"].first.attack).shape)
    assert len(shapes) == 2


def square_of_tanh(rows: Tensor) -> Tensor:
    shrunk = rows.tanh()
    return shrunk * shrunk


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_pass_keeps_what_its_backward_pass_needs(device: str) -> None:
    """tanh keeps its output, 8 numbers of 4 bytes, and so does the product, twice; the input is a leaf."""
    rows = torch.zeros(2, 4, device=device, requires_grad=True)
    assert kept_for_backward(lambda: square_of_tanh(rows)) == [2 * 4 * 4]


def test_weights_and_buffers_are_counted() -> None:
    """Four weights, and mean, variance (4 bytes each, twice) and a count (8 bytes) of a norm of two channels."""
    assert weight_bytes(nn.BatchNorm1d(2)) == (2 + 2 + 2 + 2) * 4 + 8


def test_a_network_without_memory_keeps_as_much_as_one_with_it() -> None:
    architecture = Architecture(model=Vgg16BnConfig(), classes=3, channels=3, image_size=32)
    bytes_kept = {}
    for device in ("cpu", "meta"):
        with torch.device(device):
            model, images = architecture.build(), torch.zeros(2, 3, 32, 32)
            bytes_kept[device] = sum(kept_for_backward(functools.partial(model, images)))
    assert bytes_kept["cpu"] == bytes_kept["meta"] > 0


def test_training_takes_its_weights_four_times_its_activations_and_its_images() -> None:
    cost = Cost(weights=100, row=10, widest=4, images=1000)
    assert cost.of_training(8) == 1000 + 4 * 100 + 1.5 * 8 * 10
    assert cost.of_search(8) == 100 + 1.5 * 8 * 10
    assert cost.of_search(10_000) == 100 + 1.5 * 256 * 10
    assert cost.of_prediction() == 100 + 1.5 * 2 * 256 * 4
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 1, 40) == Cost(11, 22, 3, 0)


SIZES: dict[str, Any] = {
    "target": {"model": {"kind": "vgg16_bn"}, "training": {"batch_size": 64}},
    "search": {"seeds": [0], "baseline": False},
}


def test_every_job_of_a_plan_gets_an_estimate(tmp_path: Path) -> None:
    plan = Estimator().estimated(toy_sweep(tmp_path, tmp_path / "runs", **SIZES).plans()[0])
    assert all(job.estimate_gb is not None and job.estimate_gb > 0 for job in plan.jobs)
    target = plan.job(plan.keys.target)
    assert target.estimate_gb is not None
    model = Architecture(model=Vgg16BnConfig(), classes=2, channels=3, image_size=32).build()
    weights = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers())) * 4
    assert target.estimate_gb > 4 * weights / GIB, "weights, gradients and two moments"
    assert target.estimate_gb == pytest.approx(0.4, rel=0.3), "0.22 GiB of weights and some activations"


def test_a_prior_and_a_target_are_both_counted_in_an_attack(tmp_path: Path) -> None:
    jobs = jobs_by_kind(Estimator().estimated(toy_sweep(tmp_path, tmp_path / "runs", **SIZES).plans()[0]))
    (attack,) = jobs["run_attack"]
    smaller = {**SIZES, "target": {"model": {"kind": "small_cnn", "width": 2, "stages": 2}}}
    jobs = jobs_by_kind(Estimator().estimated(toy_sweep(tmp_path, tmp_path / "runs", **smaller).plans()[0]))
    (on_smaller,) = jobs["run_attack"]
    assert attack.estimate_gb is not None and on_smaller.estimate_gb is not None
    assert attack.estimate_gb - on_smaller.estimate_gb > 0.05, "VGG16's weights alone are 0.055 GiB"
    assert on_smaller.estimate_gb > 0


def test_what_cannot_be_built_without_memory_has_no_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: Any, **options: Any) -> None:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    plan = toy_sweep(tmp_path, tmp_path / "runs").plans()[0]
    monkeypatch.setattr(Architecture, "build", refuses)
    plan = Estimator().estimated(plan)
    assert [job.kind for job in plan.jobs if job.estimate_gb is not None] == ["fit_prior"]
