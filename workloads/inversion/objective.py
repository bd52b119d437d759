"""The objective of an attack by gradients: how little an image looks like its identity, one loss per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.inversion.attack import Access
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, classes) and identities (B,) to losses (B,), such as those in `workloads.observation.losses`."""
Oracle_contra = TypeVar("Oracle_contra", bound=LabelOracle, contravariant=True)


class Objective(Protocol[Oracle_contra]):
    """What an attack descends on, apart from what its prior adds. An attack holds one, and can be given another."""

    @property
    def capturable(self) -> bool:
        """Whether its losses are computed on the device alone, so that a step can be recorded; True by default."""
        return True

    def prepare(self, access: Access[Oracle_contra], *, context: JobContext) -> State:
        """Tensors the objective needs, computed once before the search; `Access.findings` holds them from then on."""

    def losses(self, access: Access[Oracle_contra], images: Tensor, identities: Tensor) -> Tensor:
        """Small where an image looks like its identity. Shape: (B, C, H, W) in about [0, 1], (B,) to (B,)."""


@dataclass(frozen=True)
class TargetObjective(Objective[WhiteBoxOracle]):
    """A loss of the target model's logits."""

    loss: Loss

    def prepare(self, access: Access[WhiteBoxOracle], *, context: JobContext) -> State:
        """A loss of logits needs nothing."""
        return {}

    def losses(self, access: Access[WhiteBoxOracle], images: Tensor, identities: Tensor) -> Tensor:
        """The loss of the target model's logits."""
        return self.loss(access.target.logits(images), identities)


@dataclass(frozen=True)
class SurrogateObjective(Objective[LabelOracle]):
    """The mean loss over the surrogates' logits; the target model is not asked."""

    loss: Loss

    def prepare(self, access: Access[LabelOracle], *, context: JobContext) -> State:
        """A loss of logits needs nothing."""
        return {}

    def losses(self, access: Access[LabelOracle], images: Tensor, identities: Tensor) -> Tensor:
        """The mean loss over the surrogates."""
        return torch.stack([self.loss(surrogate(images), identities) for surrogate in access.surrogates]).mean(0)
