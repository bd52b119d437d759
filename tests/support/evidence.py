"""Evidence for metrics, blank but for what a test is about, and the context of the job that judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from workloads.context import JobContext
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.metrics.base import ReconstructionEvidence
from workloads.models.base import Classifier
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture

SIZE = 16


def evidence(aimed: list[int], owners: list[int], **changes: Any) -> ReconstructionEvidence:
    """Reconstructions aiming at `aimed` and private images of `owners`: black, with features and logits of 0.

    `changes` replace any field, or `private_images` and `held_out_images`, (N, C, H, W) uint8, of `owners`.
    """
    black = torch.zeros(len(owners), 1, SIZE, SIZE, dtype=torch.uint8)
    names = tuple(f"person {identity}" for identity in range(max(aimed + owners) + 1))
    private, held_out = (
        ImageSet(changes.pop(f"{part}_images", black), torch.tensor(owners), names) for part in ("private", "held_out")
    )
    fields: dict[str, Any] = {
        "images": torch.zeros(len(aimed), *private.images.shape[1:]),
        "identities": torch.tensor(aimed),
        "logits": torch.zeros(len(aimed), len(names)),
        "features": torch.zeros(len(aimed), 2),
        "private": private,
        "private_features": torch.zeros(len(owners), 2),
        "held_out": held_out,
        "network": network(channels=private.images.shape[1]),
    }
    return ReconstructionEvidence(**{**fields, **changes})


def network(channels: int = 1) -> Classifier:
    """Two stages of 4 and 8 channels for images of 16 pixels."""
    config = SmallCnnConfig(width=4, stages=2)
    model = Architecture(model=config, classes=2, channels=channels, image_size=SIZE).build()
    model.draw_weights(generator("test", "network"))
    return model.eval().requires_grad_(False)


def judging(folder: Path, key: str = "test") -> JobContext:
    """The context of a job that evaluates an attack and leaves its results in `folder`."""
    return JobContext(
        key=key,
        inputs={},
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda data: ImageSet(torch.zeros(0), torch.zeros(0), ()),
    )
