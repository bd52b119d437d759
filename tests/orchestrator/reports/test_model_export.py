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
from orchestrator.reports import onnx_file
from orchestrator.reports.model_export import export_model
from orchestrator.results.sweep_result import finished_trial
from tests.support.toy import write_spec
from tests.support.training import Linear
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


def test_the_onnx_file_gives_the_logits_of_the_model_for_any_number_of_images(finished: Run, tmp_path: Path) -> None:
    import onnxruntime  # type: ignore[import-untyped]  # it has no types

    (trial,) = finished.result.finished
    export = export_model(finished.result, trial, finished.sweep.store, tmp_path)
    assert export.without_onnx is None and [file.name for file in export.files] == [
        *("model.safetensors", "classes.txt", "README.md", "model.onnx")
    ]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert "`images` (batch, 1, 32, 32), float32 in [0, 1]" in (tmp_path / "README.md").read_text()
    for count in (1, 5):
        images = torch.rand(count, 1, 32, 32)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), finished.trial(trial.id).model()(images))


def test_without_the_library_the_rest_is_exported_and_the_reason_said(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "LIBRARIES", ("onnx", "no_such_library"))
    arguments = ["export", str(finished.folder), "--trial", finished.result.finished[0].id, "--to", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "no model.onnx: no_such_library not installed: pip install 'midre[onnx]'"
    assert (tmp_path / "model.safetensors").exists() and not (tmp_path / "model.onnx").exists()
    assert "onnx" not in (tmp_path / "README.md").read_text()


def test_why_torch_cannot_write_a_network_is_a_clause(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Reading(Linear):
        """Does something else for dark images, which no graph holds."""

        def features(self, normalized: torch.Tensor) -> torch.Tensor:
            return normalized.flatten(1) * (2 if normalized.sum().item() > 1 else 3)

    reason = onnx_file.write_onnx(Reading([0.0, 1.0]), size=4, file=tmp_path / "model.onnx")
    assert reason is not None and reason.startswith("torch cannot write this network: ") and "\n" not in reason
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


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
