"""What a defense is: its settings, and hooks into the training of a classifier. Several defenses act in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import ComponentConfig
from workloads.core.registry import Registry
from workloads.models.base import Classifier, check_trains
from workloads.recipes.optimization import TrainingConfig


class DefenseConfig(ComponentConfig):
    """Settings of one defense, and what follows from them before anything is trained."""

    @property
    def starts_from(self) -> TrainingConfig | None:
        """How to train, on public data, the network that the target model starts from; None to start from nothing."""
        return None

    def check_combination(self, others: Sequence[DefenseConfig]) -> None:
        """Accept the other defenses of the list.

        Raises:
            ConfigError: if one of them cannot be combined with this one, with the reason.
        """

    def remarks(self, size: tuple[int, int]) -> Iterable[str]:
        """Say what users should know of these settings on images of this height and width, a clause each."""
        return ()

    def change_model(self, model: Classifier) -> None:
        """Change the architecture in place: before its weights are drawn, and again before they are loaded.

        Raises:
            ConfigError: if the architecture has no place for the change, with what to use instead.
        """

    def check_training(self, model: Classifier) -> None:
        """Try the changed network in training mode, which leaves it as it was; it may lie on torch's meta device.

        Raises:
            ConfigError: if it cannot be trained with this defense, with the reason.
        """
        changes_models = type(self).change_model is not DefenseConfig.change_model
        if changes_models:  # else it is the network without the defense, which is tried by itself
            check_trains(model)


@dataclass(frozen=True)
class TrainingFacts:
    """What a defense may know about the training it takes part in."""

    images: int
    """Number of training images."""
    image_shape: tuple[int, int, int]
    """(C, H, W) of an image as the network reads it."""
    channel_mean: Tensor
    """Mean of the training images after the model's normalisation. Shape: (C,)."""
    generator: Callable[..., torch.Generator]
    """Gives a fresh CPU generator of this job by name: the same names give the same draws after a restart."""
    classes: int = 2
    """Number of identities."""
    epochs: int = 1
    """Length of the training."""
    batch_size: int = 1
    """Images per batch, before defenses change their number."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the network is trained."""
    build_network: Callable[[int], Classifier] | None = None
    """Builds another network like the one in training, with fresh weights and this number of outputs."""
    build_optimizer: Callable[[Classifier], torch.optim.Optimizer] | None = None
    """Builds an optimiser like that of the network in training, for another network."""
    pretrained: Mapping[str, Tensor] | None = None
    """Weights of the classifier trained on public data, if `DefenseConfig.starts_from` asks for one."""

    def generator_on_device(self, *purpose: str | int) -> torch.Generator:
        """Make a generator that draws on the device; on a CPU, the one that `generator` gives."""
        seed = self.generator(*purpose).initial_seed()
        return torch.Generator(self.device if self.device.type == "cuda" else "cpu").manual_seed(seed)


@dataclass(frozen=True)
class Batch:
    """A training batch on its way from data to loss, which is the sum over rows of weight times cross-entropy."""

    images: Tensor
    """Normalised images, which whoever holds the batch may change. Shape: (B, C, H, W)."""
    indices: Tensor
    """Positions in the training set, on the device. Shape: (B,), int64."""
    targets: Tensor
    """Wanted class probabilities. Shape: (B, K)."""
    weights: Tensor
    """Weight of each row in the loss: 1/B unless a defense changes it. Shape: (B,)."""


class Evidence(NamedTuple):
    """What a defense really did in a training, stored with the model."""

    facts: dict[str, Any]
    """Values for JSON."""
    tensors: dict[str, Tensor]
    """Tensors for a safetensors file; those with two dimensions are also stored as pictures."""


class Defense:
    """Hooks into the one training loop. Every hook has a default that changes nothing.

    They act during training only: classification and attacks later meet the architecture that
    `DefenseConfig.change_model` left, with the trained weights.
    """

    couples_images: ClassVar[bool] = False
    """True if the loss or input of one image depends on other images, so that one image's influence has no bound."""
    capturable: ClassVar[bool] = True
    """False if what the defense adds to a step, a penalty, hooks on the network or an optimiser, looks at the host or
    does not do the same at each step: a GPU then cannot record the step and replay it. `prepare` is never recorded."""
    config: DefenseConfig

    def __init__(self, config: DefenseConfig, *, facts: TrainingFacts) -> None:
        self.config = config
        self.facts = facts

    def start(self, model: Classifier) -> None:
        """Get hold of the network before training: on its device, with fresh weights. Called after a restart too."""

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Optimiser to train with, to take over how gradients become steps."""
        return optimizer

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0; the network is in training mode already."""

    def batches(self, *, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Positions of the images in each batch of an epoch; None for the usual shuffling."""
        return None

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The batch that training goes on with; most defenses override `augment` instead.

        `generator` draws where the images are: `torch.rand(..., generator=generator, device=batch.images.device)`. On a
        GPU a step should neither read a value nor copy one from the host: the host then waits.
        """
        return replace(batch, images=self.augment(batch.images, indices=batch.indices, generator=generator))

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Change the normalised images of a training batch, in place if possible; evaluation never calls this.

        Shape: images (B, C, H, W) float, which the method may change; indices (B,) int64, positions in the training
        set.
        """
        return images

    def penalty(self, batch: Batch) -> Tensor | None:
        """Scalar to add to the loss of the batch that the network has just classified."""
        return None

    def state(self) -> State:
        """What must survive a restart."""
        return {}

    def restore(self, state: State) -> None:
        """Continue from what `state` returned."""

    def finish(self) -> None:
        """Remove from the network whatever `start` put on it, so that it can be stored."""

    def evidence(self) -> Evidence:
        """What the defense really did in this training."""
        return Evidence({}, {})


DEFENSES: Registry[DefenseConfig, Defense] = Registry("workloads.defenses")
