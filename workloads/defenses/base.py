"""What a defense may do to the training of a classifier. Defenses compose: each sees what the one before it made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.config import ComponentConfig
from workloads.registry import Registry


class DefenseConfig(ComponentConfig):
    """Settings of one defense."""


@dataclass(frozen=True)
class TrainingFacts:
    """What a defense may know of the training it joins.

    Shape: image_shape (C, H, W); channel_mean (C,), the mean of the training images after the model's normalisation.
    """

    images: int
    image_shape: tuple[int, int, int]
    channel_mean: Tensor
    generator: Callable[[str], torch.Generator]
    """A fresh named generator of this job, on the CPU: the same name gives the same draws after a restart."""


class Defense:
    """Hooks into the one training loop. Every hook has a default that changes nothing."""

    def __init__(self, config: DefenseConfig, *, facts: TrainingFacts) -> None:
        self.config = config
        self.facts = facts

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Change a normalised training batch, in place where that is possible; evaluation never passes here.

        Shape: images (B, C, H, W) float, owned by the caller; indices (B,) int64, positions in the training set.
        `generator` lives on the CPU.
        """
        return images

    def state(self) -> dict[str, Tensor]:
        """What must survive a restart."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def evidence(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What the defense really did, stored with the model: plain facts and tensors."""
        return {}, {}


DEFENSES: Registry[Defense] = Registry("workloads.defenses")
