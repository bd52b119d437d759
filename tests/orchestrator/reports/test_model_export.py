"""A model that is exported: its weights come back as a checkpoint, and its card says what was done to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from orchestrator import Run, run
from orchestrator.cli.commands import app
from orchestrator.errors import RequestError
from orchestrator.reports.model_export import export_model
from orchestrator.results.sweep_result import finished_trial
from tests.support.toy import write_spec
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.checkpoint_files import CheckpointConfig, CheckpointFile, read_classifier
from workloads.training.classifiers import Architecture


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("export")
    search = {"space": {}, "seeds": [0], "baseline": False}
    spec = write_spec(folder, search=search, evaluation={**_judge(), "seeds": [0]}, floors=False)
    return run(spec, runs=folder / "runs", executor="inline")


def _judge() -> dict[str, object]:
    return {
        "model": {"kind": "small_cnn", "width": 3, "stages": 2},
        "training": {"epochs": 1, "batch_size": 8},
    }


def test_what_is_exported_is_read_as_a_checkpoint(finished: Run, tmp_path: Path) -> None:
    (trial,) = finished.result.finished
    done = CliRunner().invoke(app, ["export", str(finished.folder), "--trial", trial.id[:6], "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    card = (tmp_path / "README.md").read_text()
    target = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])["target"]
    config = SmallCnnConfig.model_validate(target["model"])
    source = CheckpointConfig(
        checkpoint=CheckpointFile.at(str(tmp_path / target["checkpoint"])),
        classes=tuple((tmp_path / target["classes"]).read_text().split()),
        mean=tuple(target["mean"]),
        std=tuple(target["std"]),
    )
    architecture = Architecture(model=config, classes=2, channels=1, image_size=32)
    images = torch.rand(3, 1, 32, 32)
    expected = finished.trial(trial.id).model()(images)
    assert torch.equal(read_classifier(source, architecture, ("0", "1")).eval()(images), expected)


def test_the_card_says_how_the_model_held(finished: Run, tmp_path: Path) -> None:
    (trial,) = finished.result.finished
    export_model(finished.result, trial, finished.sweep.store, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "- random_erasing (" in card
    assert f"natural accuracy: {100 * trial.value('natural_accuracy'):.1f} %" in card
    assert "- gmi (white box, " in card
    assert f"attack accuracy: {100 * trial.value('gmi.attack_accuracy'):.1f} %" in card


def test_a_folder_with_files_and_an_unknown_trial_are_refused(finished: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="it holds files already: name an empty folder"):
        export_model(finished.result, finished.result.finished[0], finished.sweep.store, tmp_path)
    with pytest.raises(RequestError, match="trial 'zzz': 0 finished trials have such an id"):
        finished_trial(finished.result, "zzz")
