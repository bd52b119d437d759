"""Files of weights are looked at before a run: a spec whose networks cannot begin with them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import SpecError
from orchestrator.spec.loading import load_spec, resolve
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture

DIGITS = {"kind": "digits", "channels": 3, "image_size": 32, "max_per_identity": 4}


def check(folder: Path, part: str = "target", *, weights: str = "none", model: dict[str, Any] | None = None) -> None:
    """Check a spec one of whose parts begins with a file of weights, or has another model."""
    spec: dict[str, Any] = {
        "name": "weights",
        "data": {"private": {**DIGITS, "identities": ["0", "1"]}, "public": {**DIGITS, "identities": ["5"]}},
        "target": {"model": {"kind": "small_cnn", "width": 2}},
        "evaluation": {"model": {"kind": "small_cnn", "width": 2}},
        "prior": {"kind": "wgan_gp"},
        "attacks": [{"kind": "gmi", "steps": 1}],
    }
    spec[part]["model"] = model or {**spec[part]["model"], "weights": weights}
    (folder / "spec.yaml").write_text(json.dumps(spec))
    resolve(*load_spec(folder / "spec.yaml"), nodes=None)


def small(channels: int = 3) -> dict[str, torch.Tensor]:
    return Architecture(model=SmallCnnConfig(width=2), classes=7, channels=channels, image_size=32).build().state_dict()


@pytest.mark.parametrize("part", ["target", "evaluation"])
def test_weights_that_fit_pass_wherever_the_command_is_run(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(small(), tmp_path / "w.pth")
    monkeypatch.chdir("/")
    check(tmp_path, part, weights="w.pth")  # relative to the spec


@pytest.mark.parametrize("part", ["target", "evaluation"])
def test_weights_for_another_number_of_channels_are_refused_at_their_field(tmp_path: Path, part: str) -> None:
    torch.save(small(channels=1), tmp_path / "w.pth")
    with pytest.raises(SpecError) as caught:
        check(tmp_path, part, weights="w.pth")
    assert str(caught.value).endswith(
        f"{part}.model.weights: weights {tmp_path}/w.pth do not fit SmallCnn: 1 of another shape (body.0.0.weight): "
        "body.0.0.weight is 2 x 1 x 3 x 3 there and 2 x 3 x 3 x 3 here."
    )


def test_a_pickled_model_is_refused_before_the_run(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.pth")
    with pytest.raises(SpecError, match=r"target\.model\.weights: .*w\.pth is a whole pickled model, which is never"):
        check(tmp_path, weights="w.pth")


def test_imagenet_weights_that_are_not_here_are_missed_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SpecError, match=r"target\.model\.weights: imagenet weights are not on this machine: put http"):
        check(tmp_path, model={"kind": "resnet", "weights": "imagenet"})
