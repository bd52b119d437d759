"""One step of training, as a job takes it, on a small member of any family of classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from tests.support.tiny_networks import FAMILIES, SIDES
from workloads.context import DataInput, JobContext
from workloads.core.numerics import Precision
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.datasets.digits import DigitsConfig
from workloads.defenses.base import DefenseConfig
from workloads.jobs import train_classifier
from workloads.jobs.train_classifier import TrainClassifier, TrainClassifierConfig
from workloads.models.base import Classifier, ModelConfig
from workloads.models.timm import TimmConfig
from workloads.models.torchvision import TorchvisionConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.classifiers import Architecture, save_classifier

CPU = torch.device("cpu")
CLASSES, IMAGES, SIZE = 3, 4, 32
NETWORKS_OF_LIBRARIES: dict[str, ModelConfig] = {
    "torchvision.densenet121": TorchvisionConfig(name="densenet121"),
    "torchvision.googlenet": TorchvisionConfig(name="googlenet"),
    "torchvision.mobilenet_v3_small": TorchvisionConfig(name="mobilenet_v3_small"),
    "timm.mobilenetv3_small_050": TimmConfig(name="mobilenetv3_small_050"),
    "timm.convnext_atto": TimmConfig(name="convnext_atto"),
}
"""More networks of the families `torchvision` and `timm`: activations and sums in place, blocks with weights of their
own, a last layer wider than the last maps."""
Format = tuple[Precision, bool]
"""Precision, and whether channels lie last. On CPUs tf32 computes as fp32 does."""


def member(name: str) -> tuple[ModelConfig, int]:
    """A network, and the side of the images it reads."""
    return {**FAMILIES, **NETWORKS_OF_LIBRARIES}[name], SIDES.get(name, SIZE)


def images(side: int = SIZE) -> Tensor:
    count = IMAGES if side < 75 else 2
    return torch.rand(count, 3, side, side, generator=generator("test", "steps"))


def step(
    folder: Path,
    defenses: tuple[DefenseConfig, ...],
    name: str,
    form: Format,
    inputs: Mapping[str, Path] = MappingProxyType({}),
    *,
    device: torch.device = CPU,
) -> Classifier:
    """A network after one step of training on noise; its loss was finite."""
    model, side = member(name)
    stored: list[Classifier] = []
    noise = images(side).mul(255).to(torch.uint8)
    data = ImageSet(noise, torch.arange(len(noise)) % CLASSES, ("a", "b", "c"))
    context = JobContext(
        key="0" * 64,
        inputs=dict(inputs),
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda wanted: data,
        device=device,
    )
    precision, channels_last = form
    config = TrainClassifierConfig(
        role="target",
        data=DataInput(dataset=DigitsConfig(), digest=""),
        split=None,
        model=model,
        training=TrainingConfig(epochs=1, batch_size=len(noise), precision=precision, channels_last=channels_last),
        defenses=defenses,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_classifier, "save_classifier", lambda folder, model, architecture: stored.append(model))
        patch.setattr(JobContext, "checkpoint", lambda *state: None)
        TrainClassifier(config).run(context)
    return stored[0]


def public_classifier(folder: Path, name: str) -> dict[str, Path]:
    """The input that `tl_dmi` starts from."""
    model, side = member(name)
    architecture = Architecture(model=model, classes=CLASSES, channels=3, image_size=side)
    save_classifier(folder, architecture.build(), architecture)
    return {"public": folder}
