"""LOKT's prior: a conditional GAN whose critic learns to classify as the target model does, from labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.config import Addition, Fraction
from workloads.observation.oracles import LabelOracle
from workloads.priors.adversarial import Figures, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.conditional import ConditionalConfig, ConditionalPrior
from workloads.priors.plg_gan import hinge
from workloads.priors.residual import Trunk


class TacganConfig(ConditionalConfig):
    """Defaults are those of the authors' code for CelebA, but for `steps`: theirs are 100,000."""

    kind: Literal["tacgan"] = "tacgan"
    batch_size: PositiveInt = 128
    class_weight: NonNegativeFloat = 1.5
    """Of the classes' cross-entropy beside that of real against made."""
    warm_up: Fraction = 0.05
    """Part of the steps before classes count. The authors take longer for other data, up to a quarter."""
    realism_loss: Annotated[Literal["cross_entropy", "hinge"], Addition()] = "cross_entropy"
    """How the critic learns real from made. The authors' cross-entropy rewards it for ever larger logits; where there
    is time for a few thousand steps only, it runs away from the generator, and PLG-MI's hinge does not."""


@PRIORS.register(TacganConfig)
class Tacgan(ConditionalPrior):
    """Target-assisted conditional GAN: its made images carry the labels that the target model gives them.

    The generator is `plg_gan`'s. The target model is shown images cut to [0, 1], as an interface that takes images
    would; the authors show it the generator's raw output.

    Source: Nguyen et al., "Label-Only Model Inversion Attacks via Knowledge Transfer", NeurIPS 2023.
    """

    target_access = LabelOracle
    config: TacganConfig

    def __init__(self, config: TacganConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        self.critic = ClassifyingCritic(self.widths[::-1], channels=channels, classes=classes)
        self._classes_count = False

    @property
    def _hinges(self) -> bool:
        return self.config.realism_loss == "hinge"

    def realism(self, images: Tensor) -> Tensor:
        """The logit of being real."""
        return self.critic(images)[0]

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> BatchesWithTarget:
        assert target is not None
        return BatchesWithTarget(images, context.device, target=target)

    def begin_step(self, step: int) -> None:
        self._classes_count = step >= self.config.warm_up * self.config.steps

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        assert isinstance(batches, BatchesWithTarget)
        with torch.no_grad():
            fake, asked = self.generated_batch(draws, device=batches.device)
        made, classes = self.critic(fake)
        real, _ = self.critic(batches.draw(self.config.batch_size, draws))
        loss = hinge(made, real) if self._hinges else F.softplus(made).mean() + F.softplus(-real).mean()
        if not self._classes_count:
            return loss, {"critic_loss": loss.detach()}
        labels = batches.target.labels(fake.clamp(0, 1))
        loss = loss + self.config.class_weight * F.cross_entropy(classes, labels)
        return loss, {"critic_loss": loss.detach(), "named_as_asked": (labels == asked).float().mean()}

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        fake, asked = self.generated_batch(draws, device=batches.device)
        made, classes = self.critic(fake)
        loss = -made.mean() if self._hinges else F.softplus(-made).mean()
        if self._classes_count:
            loss = loss + self.config.class_weight * F.cross_entropy(classes, asked)
        return loss, {"generator_loss": loss.detach()}


class ClassifyingCritic(nn.Module):
    """Shape: (B, channels, H, W) to logits of being real (B,), and of each class (B, classes)."""

    def __init__(self, widths: list[int], *, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(widths, channels=channels)
        self.real = nn.Linear(widths[-1], 1)
        self.classes = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.real(features).flatten(), self.classes(features)


@dataclass(frozen=True)
class BatchesWithTarget(PublicBatches):
    """Public images, and the target model, which names the class of any image."""

    target: LabelOracle
