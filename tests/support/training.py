"""A network small enough to work out its training by hand, and how it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.interruptions import context_at
from workloads.core.randomness import generator
from workloads.datasets.base import ImageSet
from workloads.defenses.base import Defense, TrainingFacts
from workloads.models.base import Classifier, ModelConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.loop import train


class Linear(Classifier):
    """A linear layer on pixels as they are, so that of black images only the biases learn; it keeps what it is shown.

    Shape: (B, 1, size, size) to (B, len(biases)).
    """

    def __init__(self, biases: Sequence[float], *, size: int = 4) -> None:
        config = ModelConfig(kind="linear", input_mean=0.0, input_std=1.0)
        super().__init__(config, classes=len(biases), channels=1, image_size=size)
        self.head: nn.Linear = nn.Linear(size * size, len(biases))
        nn.init.zeros_(self.head.weight)
        self.head.bias = nn.Parameter(torch.tensor(biases))
        self.shown: list[Tensor] = []

    def features(self, normalized: Tensor) -> Tensor:
        return normalized.flatten(1)

    def stages(self) -> list[tuple[str, nn.Module]]:
        return []

    def training_logits(self, normalized: Tensor) -> tuple[Tensor, ...]:
        self.shown.append(normalized.clone())
        return super().training_logits(normalized)


def black(labels: list[int], *, size: int = 4) -> ImageSet:
    return ImageSet(torch.zeros(len(labels), 1, size, size, dtype=torch.uint8), torch.tensor(labels), ("a", "b"))


def epochs_of(
    folder: Path,
    model: Linear,
    data: ImageSet,
    *,
    validation: ImageSet | None = None,
    defenses: Sequence[Defense] = (),
    **training: Any,
) -> list[dict[str, float]]:
    """Train on one batch an epoch, and the metrics of each epoch."""
    settings = {"epochs": 1, "batch_size": len(data), "lr": 0.15, "momentum": 0.0, "weight_decay": 0.0, **training}
    context, metrics = context_at(folder), list[dict[str, float]]()
    context.on_progress = lambda progress: metrics.append(dict(progress.metrics))
    train(model, data, TrainingConfig(**settings), validation=validation, defenses=defenses, context=context)
    return metrics


def assert_biases(model: Linear, *expected: float) -> None:
    torch.testing.assert_close(model.head.bias.detach(), torch.tensor(expected), rtol=0, atol=2e-6)


def facts_of_one_image(*, epochs: int = 1) -> TrainingFacts:
    """Facts of a training on one image of one pixel, for a defense that asks for little more than random draws."""
    return TrainingFacts(1, (1, 1, 1), torch.zeros(1), lambda *name: generator("job", *name), epochs=epochs)
