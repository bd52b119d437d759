"""The search inside a class that PLG-MI and LOKT share: random views of a conditional prior's images, and Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Oracle
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.optimizers import Adam
from workloads.observation.objectives import OBJECTIVES
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior


class ClassSearchConfig(GradientAttackConfig):
    """How latents are searched inside a class."""

    keep: PositiveInt = 5
    steps: PositiveInt = 600
    lr: PositiveFloat = 0.1
    objective: Literal["margin", "cross_entropy", "poincare"] = "margin"
    views: PositiveInt = 2
    """Shown at each step, each with draws of its own."""
    view: ViewConfig = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)
    batch_reference: PositiveInt = 60
    """The batch size the authors divide by, which matters to Adam only where gradients are tiny."""


class ClassSearch(GradientAttack[Oracle]):
    """Moves latents, which nothing bounds, while the class is given to the prior."""

    config: ClassSearchConfig

    @classmethod
    def check(cls, config: Any, *, prior: Prior | None, classes: int) -> None:
        super().check(config, prior=prior, classes=classes)
        if prior is not None and not prior.conditional:
            usual = type(config).model_fields["prior"].default.kind
            raise ConfigError(
                f"prior: {config.label} searches inside a class, but images of {prior.config.kind} belong to none: "
                f"use kind: {usual}, or leave the attack's prior out."
            )

    @property
    def rule(self) -> Adam:
        return Adam(self.config.lr)

    @property
    def batch_reference(self) -> int:
        return self.config.batch_reference

    def views(self, access: Access[Oracle]) -> Sequence[View]:
        return (RandomView(self.config.view),) * self.config.views

    def objective(self, logits: Tensor, identities: Tensor) -> Tensor:
        """Shape: (B, classes), (B,) to (B,)."""
        return OBJECTIVES[self.config.objective](logits, identities)

    def protocol(self) -> dict[str, Any]:
        searched = ("objective", "views", "batch_reference")
        return super().protocol() | {name: getattr(self.config, name) for name in searched}
