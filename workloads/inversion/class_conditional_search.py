"""The search inside a class of a conditional prior that PLG-MI and LOKT share: random views of its images, and Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt

from workloads.core.config import Steps
from workloads.core.errors import ConfigError
from workloads.inversion.attack import Access, Oracle
from workloads.inversion.gradient_search import GradientAttack, GradientAttackConfig
from workloads.inversion.optimizers import Adam, Descent
from workloads.observation.views import RandomView, View, ViewConfig
from workloads.priors.base import Prior


class ClassConditionalSearchConfig(GradientAttackConfig):
    """Settings of a search for latents inside a class."""

    keep: PositiveInt = 5
    """Reconstructions kept per identity: those that the target model scores highest."""
    steps: Steps = 600
    """Steps of each search."""
    lr: PositiveFloat = 0.1
    """Learning rate of the latents."""
    objective: Literal["margin", "cross_entropy", "poincare"] = "margin"
    """Loss of the logits that the search descends on."""
    views: PositiveInt = 2
    """Random views per step, each with its own draws; losses are summed over them."""
    view: ViewConfig = ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0)
    """The random views."""
    batch_reference: PositiveInt = 60
    """Batch size that the authors divide losses by, which matters to Adam only where gradients are tiny."""


class ClassConditionalSearch(GradientAttack[Oracle]):
    """Moves unbounded latents of a conditional prior, which is told the class."""

    config: ClassConditionalSearchConfig

    def check(self, *, prior: Prior | None, classes: int) -> None:
        """Refuse a prior whose images belong to no class."""
        super().check(prior=prior, classes=classes)
        if prior is not None and not prior.conditional:
            usual = type(self.config).model_fields["prior"].default.kind
            raise ConfigError(
                f"prior: {self.config.label} searches inside a class, but images of {prior.config.kind} belong to "
                f"none: use kind: {usual}, or leave the attack's prior out."
            )

    @property
    def descent(self) -> Descent:
        """Adam, with losses divided as in the authors' code."""
        return Descent(Adam(self.config.lr), batch_reference=self.config.batch_reference)

    def views(self, access: Access[Oracle]) -> Sequence[View]:
        """The random view, several times."""
        return (RandomView(self.config.view),) * self.config.views

    def protocol(self) -> dict[str, Any]:
        """Adds loss, number of views and the batch size that losses are divided by."""
        config = self.config
        return super().protocol() | {
            "objective": config.objective,
            "views": config.views,
            "batch_reference": config.batch_reference,
        }
