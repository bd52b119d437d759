"""A classifier is measured on the images that it was not trained on, and on all of those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.interruptions import context_at
from workloads.context import DataInput
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.datasets.digits import DigitsConfig
from workloads.jobs.evaluate_classifier import EvaluateClassifier, EvaluateClassifierConfig
from workloads.metrics.natural_accuracy import NaturalAccuracyConfig
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture, save_classifier


def constant_classifier(folder: Path) -> Path:
    """Stored; it names class 0 whatever it sees."""
    folder.mkdir()
    architecture = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=2, channels=1, image_size=8)
    model = architecture.build()
    assert isinstance(model.head, nn.Linear)
    model.draw_weights(generator("test", "classifier"))
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, 0.0]))
    save_classifier(folder, model, architecture)
    return folder


def measured(folder: Path, labels: list[int], split: SplitConfig, held_out: Tensor | None = None) -> dict[str, Any]:
    """What the job writes of the constant classifier, on black images of these classes."""
    context = context_at(folder / "metrics")
    context.inputs = {"model": constant_classifier(folder / "model")}
    images = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    context.load_images = lambda data: ImageSet(images, torch.tensor(labels), ("a", "b"), held_out)
    data = DataInput(dataset=DigitsConfig(), digest="")
    EvaluateClassifier(EvaluateClassifierConfig(data=data, split=split, metrics=(NaturalAccuracyConfig(),))).run(
        context
    )
    written: dict[str, Any] = json.loads((folder / "metrics" / "metrics.json").read_text())
    return written


def test_accuracy_is_that_on_the_published_held_out_part(tmp_path: Path) -> None:
    labels, held_out = [0, 1, 1, 1, 1, 1, 0, 0, 0, 1], torch.arange(10) >= 6
    written = measured(tmp_path, labels, SplitConfig(rule="published"), held_out)
    accuracy = written["estimates"]["natural_accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(3 / 4), 4)  # on the other part it is 1 / 6
    assert written["protocol"] == {"held_out_images": 4}


def test_accuracy_is_that_on_the_fraction_held_out(tmp_path: Path) -> None:
    # A fifth of 8 is 2 and of 2 is 1, the least: 2 of 3 are of class 0. On the other part it is 6 / 7.
    written = measured(tmp_path, [0] * 8 + [1] * 2, SplitConfig(test_fraction=0.2))
    accuracy = written["estimates"]["natural_accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(2 / 3), 3)
    assert written["protocol"] == {"held_out_images": 3}
