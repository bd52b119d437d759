"""What a defense may do to the training of a classifier. Defenses compose: each sees what the one before it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig
from workloads.core.registry import Registry
from workloads.models.base import Classifier
from workloads.recipes.optimization import TrainingConfig


class DefenseConfig(ComponentConfig):
    """Settings of one defense."""

    @property
    def starts_from(self) -> TrainingConfig | None:
        """How the network that the target model starts from is trained on public data; None to start from nothing."""
        return None


@dataclass(frozen=True)
class TrainingFacts:
    """What a defense may know of the training it joins.

    Shape: image_shape (C, H, W); channel_mean (C,), the mean of the training images after the model's normalisation.
    """

    images: int
    image_shape: tuple[int, int, int]
    channel_mean: Tensor
    generator: Callable[..., torch.Generator]
    """A fresh named generator of this job, on the CPU: the same names give the same draws after a restart."""
    classes: int = 2
    epochs: int = 1
    batch_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    build_network: Callable[[int], Classifier] | None = None
    """Another network like the one in training, freshly drawn, with so many outputs."""
    build_optimizer: Callable[[Classifier], torch.optim.Optimizer] | None = None
    """An optimiser like that of the network in training, for another network."""
    pretrained: Mapping[str, Tensor] | None = None
    """Weights of the classifier trained on public data, where the defense asked for one."""


@dataclass(frozen=True)
class Batch:
    """A training batch on its way from data to loss: the sum over rows of weight times cross-entropy.

    Shape: images (B, C, H, W), normalised, owned by whoever holds the batch; indices (B,), positions in the training
    set; targets (B, K), wanted class probabilities; weights (B,), 1/B each unless a defense says otherwise.
    """

    images: Tensor
    indices: Tensor
    targets: Tensor
    weights: Tensor


class Defense:
    """Hooks into the one training loop. Every hook has a default that changes nothing.

    What classifies and what attacks later see only what `change_model` left: no other hook outlives the training.
    """

    couples_images: ClassVar[bool] = False
    """True where the loss or input of one image depends on others: no bound on one image's influence can be had."""

    def __init__(self, config: DefenseConfig, *, facts: TrainingFacts) -> None:
        self.config = config
        self.facts = facts

    @classmethod
    def change_model(cls, config: Any, model: Classifier) -> None:
        """Change the architecture, in place, before weights are drawn or loaded; the same again when it is loaded.

        Raises:
            ConfigError: if the architecture has no place for it, with what to use instead.
        """

    @classmethod
    def check_beside(cls, config: Any, others: Sequence[DefenseConfig]) -> None:
        """Accept the other defenses of the list.

        Raises:
            ConfigError: if one cannot go with this one, with the reason.
        """

    def start(self, model: Classifier) -> None:
        """Look at the network about to be trained, on its device, its weights drawn; a restart comes here as well."""

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Take over how gradients become steps."""
        return optimizer

    def begin_epoch(self, epoch: int) -> None:
        """An epoch, counted from 0, begins; the network is in training mode already."""

    def batches(self, *, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Positions of the images of each batch of an epoch; None for the usual shuffling."""
        return None

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The batch that goes on; `generator` lives on the CPU. Most defenses override `augment` instead."""
        return replace(batch, images=self.augment(batch.images, indices=batch.indices, generator=generator))

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Change a normalised training batch, in place where that is possible; evaluation never passes here.

        Shape: images (B, C, H, W) float, owned by the caller; indices (B,) int64, positions in the training set.
        """
        return images

    def penalty(self, batch: Batch) -> Tensor | None:
        """What is added to the loss of the batch that the network has just classified; a scalar."""
        return None

    def state(self) -> State:
        """What must survive a restart."""
        return {}

    def restore(self, state: State) -> None:
        """Take back what `state` gave."""

    def finish(self) -> None:
        """Leave the network as it will be stored: take off whatever `start` put on it."""

    def evidence(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What the defense really did, stored with the model: plain facts and tensors."""
        return {}, {}


DEFENSES: Registry[DefenseConfig, Defense] = Registry("workloads.defenses")
