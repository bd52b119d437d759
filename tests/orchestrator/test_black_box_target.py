"""Target models of which only answers are known, from the checks of their spec to the results of a sweep."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.errors import SpecError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.run_job import read_images
from orchestrator.planning.graph import PlannedJob
from orchestrator.sweep import Sweep
from tests.support.interruptions import context_at
from tests.support.toy import toy_sweep
from workloads.datasets.base import DATASETS
from workloads.jobs.base import job_from
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture

BREPMI = {"kind": "brepmi", "steps": 5, "points": 4, "draws": 256}
RLBMI = {"kind": "rlbmi", "steps": 4, "batch": 2, "hidden": 4}
SMALL = {"kind": "small_cnn", "width": 2, "stages": 2}
LOKT = {
    "kind": "lokt",
    "steps": 2,
    "restarts": 1,
    "keep": 1,
    "prior": {"kind": "tacgan", "width": 2, "steps": 4, "batch_size": 4, "warm_up": 0.5},
    "surrogate_models": [SMALL],
    "surrogate_training": {"epochs": 1, "batch_size": 8},
    "generated_per_class": 3,
}
CHECKPOINT = {"model": SMALL, "checkpoint": "w.pth"}
SERVICE = {"service": "toy_service:labels", "service_revision": "1", "answers": "labels"}
PROGRAM = {"program": "p.pt", "answers": "logits"}


def network() -> Classifier:
    model = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=2, channels=1, image_size=32).build()
    model.draw_weights(torch.Generator().manual_seed(1))
    return model.eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same network as a checkpoint, a program, and behind a service that gives labels, or noisy scores."""
    model, noise = network(), torch.Generator().manual_seed(0)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, torch.rand(2, 1, 32, 32)).save(tmp_path / "p.pt")
    module = ModuleType("toy_service")
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "labels": lambda images: model(images).argmax(1),
        "noisy": lambda images: model(images) + torch.rand(len(images), 2, generator=noise),
    }
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, "toy_service", module)
    return tmp_path


def sweep(folder: Path, target: dict[str, Any], *attacks: dict[str, Any], **changes: Any) -> Sweep:
    search = {"objectives": [{"metric": "natural_accuracy", "goal": "max"}]}
    sections = {"target": target, "attacks": list(attacks), "defenses": [], "search": search, **changes}
    return toy_sweep(folder, folder / "runs", **copy.deepcopy(sections))


def refusal(folder: Path, target: dict[str, Any], *attacks: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        sweep(folder, target, *attacks, **changes)
    return str(caught.value).replace(f"{folder}/", "")


def job_of(target: Sweep, role: str) -> PlannedJob:
    (plan,) = target.plans()
    return plan.job(plan.keys.target if role == "target" else plan.keys.attacks["brepmi"].first.attack)


def rebuilt(folder: Path, target: dict[str, Any]) -> dict[str, Tensor]:
    """What one attack rebuilds of a target model, with the same random numbers whatever that is."""
    planned = sweep(folder, target, BREPMI)
    (plan,) = planned.plans()
    folders: dict[str, Path] = {}
    for key in (plan.keys.target, plan.keys.attacks["brepmi"].first.attack):
        job, number = plan.job(key), len(folders)
        for role, input_key in job.inputs.items():
            if input_key not in folders:
                folders[input_key] = _run(plan.job(input_key), {}, folder / f"{target.get('answers')}.{role}")
        inputs = {role: folders[input_key] for role, input_key in job.inputs.items()}
        folders[key] = _run(job, inputs, folder / f"{target.get('answers')}.{number}")
    return load_file(folders[key] / "reconstructions.safetensors")


def _run(job: PlannedJob, inputs: dict[str, Path], output: Path) -> Path:
    context = context_at(output)
    context.inputs, context.load_images, context.key = inputs, read_images, "the same key"
    job_from(job.config).run(context)
    return output


def test_the_same_answers_give_the_same_reconstructions_as_a_checkpoint(folder: Path) -> None:
    expected = rebuilt(folder, CHECKPOINT)
    for target in (PROGRAM, SERVICE):
        rows = rebuilt(folder, target)
        assert all(torch.equal(rows[name], expected[name]) for name in expected)


def test_a_program_is_attacked_and_judged(folder: Path) -> None:
    target = sweep(folder, PROGRAM, BREPMI, RLBMI)
    target.run(InlineExecutor(), spec_file=None)
    (trial,) = target.result().trials
    assert trial.status == "done", trial.error
    data = DATASETS.build(target.resolved.spec.data.private).load()
    _, held_out = data.split(target.resolved.spec.data.split)
    correct = network()(held_out.images.float() / 255).argmax(1) == held_out.identities
    assert trial.estimates()["natural_accuracy"]["value"] == pytest.approx(correct.double().mean().item())
    assert target.store.open(job_of(target, "target").key).joinpath("program.pt").is_file()


def test_a_service_is_attacked_within_its_budget_and_every_image_is_counted(folder: Path) -> None:
    target = sweep(folder, SERVICE | {"budget": 100}, LOKT)
    target.run(InlineExecutor(), spec_file=None)
    (trial,) = target.result().trials
    assert trial.status == "done", trial.error
    (plan,) = target.plans()
    lokt = plan.keys.attacks["lokt"].first
    protocol = json.loads((target.store.open(lokt.attack) / "protocol.json").read_text())
    # Two batches of 4 for the prior after its warm-up, 3 images of each class for the surrogate, and the last 2.
    assert (protocol["queries"], protocol["images_sent"]) == (8 + 6 + 2, 2)
    measured = json.loads((target.store.open(plan.keys.natural) / "metrics.json").read_text())
    assert measured["protocol"] == {"held_out_images": 8, "images_sent": 8}


def test_a_budget_ends_an_attack_in_one_line_and_counts_earlier_tries(folder: Path) -> None:
    attack = {**BREPMI, "patience": 1000, "steps": 50}
    for tries in (1, 2):
        target = sweep(folder, SERVICE | {"budget": 300}, attack)
        target.run(InlineExecutor(), spec_file=None)
        (trial,) = target.result().trials
        assert "BudgetError: the budget of 300 images is used up: " in trial.error, tries
    sent = int(target.store.read_note(f"sent-{job_of(target, 'attack').key}") or 0)
    assert 256 < sent <= 300  # the second try found the budget of the first used up


def test_limits_do_not_make_it_another_sweep_and_a_revision_does(folder: Path) -> None:
    key = job_of(sweep(folder, SERVICE, BREPMI), "attack").key
    limited = job_of(sweep(folder, SERVICE | {"budget": 999, "rate": 1000.0, "retries": 0}, BREPMI), "attack")
    assert (limited.key, limited.alone) == (key, "toy_service:labels")
    assert job_of(sweep(folder, SERVICE | {"service_revision": "2"}, BREPMI), "attack").key != key


@pytest.mark.parametrize(
    ("target", "attack", "message"),
    [
        (SERVICE, {"kind": "gmi"}, "attacks.0: gmi asks for more of the target model (white box) than this one "
                                   "answers (labels only). Attacks that can: brepmi, lokt."),
        (PROGRAM, {"kind": "mirror"}, "Attacks that can: brepmi, lokt, mirror (search: genetic), null, rlbmi."),
        (SERVICE, RLBMI, "attacks.0: rlbmi asks for more of the target model (scores)"),
        (PROGRAM | {"answers": "labels"}, BREPMI, "target.program: it answers 2 images with a tensor of 2 x 2, but "),
        (SERVICE | {"budget": 15}, LOKT, "attacks.0: lokt asks the target model about 16 images at least, with its "
                                         "prior and surrogates, above the budget of 15"),
        (SERVICE | {"service": "labels"}, BREPMI, "target.service: 'labels' names no function: write module:function."),
        (SERVICE | {"service": "toy_service:x"}, BREPMI, "target.service: toy_service:x: toy_service has no 'x'"),
        (SERVICE | {"rates": 1}, BREPMI, "target.rates: unknown field. Did you mean 'rate'?"),
        (PROGRAM | {"program": "x.pt"}, BREPMI, "target.program: no program at x.pt: give a TorchScript (.pt)"),
        (PROGRAM | {"program": "w.pth"}, BREPMI, "target.program: w.pth is no TorchScript"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(
    folder: Path, target: dict[str, Any], attack: dict[str, Any], message: str
) -> None:
    assert message in refusal(folder, target, attack)


def test_defenses_are_refused(folder: Path) -> None:
    message = refusal(folder, SERVICE, BREPMI, defenses=[{"kind": "random_erasing"}])
    assert "defenses: defenses act in training, which a black box has behind it" in message


def test_answers_that_do_not_repeat_are_noted(folder: Path) -> None:
    noisy = SERVICE | {"service": "toy_service:noisy", "answers": "logits"}
    notes = sweep(folder, noisy, BREPMI).resolved.notes
    assert any("target.service: asked again about the same images it answers otherwise" in note for note in notes)
    assert len(sweep(folder, SERVICE, BREPMI).resolved.notes) == len(notes) - 1
