"""Attack this checkpoint: a spec whose target model somebody else trained, from its checks to its results."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from orchestrator.errors import SpecError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.sweep import Sweep
from tests.support.toy import TOY, toy_sweep
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture

MODEL = {"kind": "small_cnn", "width": 2, "stages": 2}
TRAINED: dict[str, Any] = TOY["target"]["training"]


def checkpoint(folder: Path, classes: int = 2) -> None:
    """A file `w.pth` that tells this many classes apart."""
    model = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=classes, channels=1, image_size=32).build()
    model.draw_weights(torch.Generator().manual_seed(1))
    torch.save(model.state_dict(), folder / "w.pth")


def sweep(folder: Path, *, defenses: Any = (), space: Any = None, seeds: Any = (0,), **target: Any) -> Sweep:
    changes = {
        "target": {"model": MODEL, "checkpoint": "w.pth", **target},
        "defenses": list(defenses),
        "search": {"space": space or {}, "seeds": list(seeds)},
    }
    return toy_sweep(folder, folder / "runs", **changes)


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(SpecError) as caught:
        sweep(folder, **settings)
    return str(caught.value).replace(f"{folder}/", "")


def kinds(target: Sweep) -> set[str]:
    return {job.kind for plan in target.plans() for job in plan.jobs}


def test_a_checkpoint_is_attacked_and_judged_and_never_trained(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    target = sweep(tmp_path)
    (plan,) = target.plans()
    assert [job.config["role"] for job in plan.jobs if job.kind == "train_classifier"] == ["evaluation"]
    target.run(InlineExecutor(), spec_file=None)
    (trial,) = target.result().trials
    assert trial.status == "done", trial.error
    assert set(trial.estimates()) == {"natural_accuracy", "gmi.attack_accuracy", "gmi.knn_distance"}
    stored = torch.load(tmp_path / "w.pth", weights_only=True)
    model = target.store.open(plan.keys.target) / "model.safetensors"
    assert all(torch.equal(weight, stored[name]) for name, weight in load_file(model).items())


def test_what_is_not_known_of_a_checkpoint_is_noted(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    notes = sweep(tmp_path, seeds=(0, 1)).resolved.notes
    assert notes[0].startswith("target.checkpoint: which images it was trained on is not known: natural accuracy is")
    assert notes[1].startswith("search.seeds: a model that is there is not trained: all seeds give the same numbers")


def test_a_model_may_be_trained_beside_it(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    trained = {"model": MODEL, "training": TRAINED}
    imported = {"model": MODEL, "checkpoint": "w.pth"}
    target = sweep(tmp_path, space={"target": {"kind": "choice", "values": [imported, trained]}})
    assert [plan.job(plan.keys.target).kind for plan in target.plans()] == ["import_classifier", "train_classifier"]


def test_reading_a_checkpoint_holds_no_gpu_and_the_other_jobs_get_one(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (plan,) = sweep(tmp_path).plans()
    uses_gpu = {job.kind: job.needs.uses_gpu for job in plan.jobs}
    computing = {"train_classifier", "fit_prior", "run_attack", "evaluate_classifier", "evaluate_attack"}
    assert uses_gpu == {"import_classifier": False, **dict.fromkeys(computing, True)}


def test_another_checkpoint_is_another_sweep_and_the_same_elsewhere_is_not(tmp_path: Path) -> None:
    ids = []
    for name, bias in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        (tmp_path / name).mkdir()
        checkpoint(tmp_path / name)
        weights = torch.load(tmp_path / name / "w.pth", weights_only=True)
        torch.save(weights | {"head.bias": weights["head.bias"] + bias}, tmp_path / name / "w.pth")
        plan = sweep(tmp_path / name).plans()[0]
        ids.append(plan.keys.target)
    assert ids[0] == ids[1] != ids[2]


def test_names_of_classes_may_stand_in_a_file(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "classes.txt").write_text("1\n0\n")
    assert sweep(tmp_path, classes="classes.txt").resolved.spec.target.classes == ("1", "0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": TRAINED}, "target.training: a checkpoint is not trained: set it to none, or leave it out."),
        ({"checkpoint": None, "training": "none"}, "target.training: none needs a checkpoint: name one"),
        ({"checkpoint": None, "mean": [0.5]}, "target.mean: describes a checkpoint: name one, or leave it out."),
        ({"classes": ["0", "7"]}, "target.checkpoint: data.private has '1', which the other lacks: classes and private "
                                  "identities must be the same."),
        ({"defenses": [{"kind": "random_erasing"}]}, "defenses: defenses act in training, which a checkpoint has"),
        ({"model": {**MODEL, "width": 3}}, "target.checkpoint: weights w.pth do not fit SmallCnn: 11 of another shape"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_checkpoint_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    checkpoint(tmp_path)
    assert message in refusal(tmp_path, **copy.deepcopy(settings))


def test_a_checkpoint_of_other_people_is_refused_by_its_number_of_classes(tmp_path: Path) -> None:
    checkpoint(tmp_path, classes=5)
    assert "target.checkpoint: w.pth tells 5 classes apart, but data.private has 2 identities" in refusal(tmp_path)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "target.checkpoint: no weights at w.pth" in refusal(tmp_path)
