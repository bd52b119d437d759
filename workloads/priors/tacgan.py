"""LOKT's prior: a conditional GAN whose critic learns to classify as the target model does, from its labels only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.context import JobContext
from workloads.core.config import Addition, BatchSize, Fraction
from workloads.datasets.resident import on_device
from workloads.observation.oracles import LabelOracle
from workloads.priors.adversarial import PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.conditional import ConditionalConfig, ConditionalPrior
from workloads.priors.plg_gan import hinge
from workloads.priors.recorded_updates import Scalars
from workloads.priors.residual import Trunk


@dataclass(frozen=True)
class BatchesWithTarget(PublicBatches):
    """Public images, and the target model, which labels any image."""

    target: LabelOracle


class TacganConfig(ConditionalConfig):
    """Settings of LOKT's GAN. Defaults follow the authors' code for CelebA, except `steps`: theirs are 100,000."""

    version: ClassVar[int] = 3
    kind: Literal["tacgan"] = "tacgan"
    batch_size: BatchSize = 128
    """Images per update, real and generated each."""
    class_weight: NonNegativeFloat = 1.5
    """Weight of the classification loss; that of the real/fake loss is 1."""
    warm_up: Fraction = 0.05
    """Share of the steps before the classification loss is added. The authors use up to 0.25 for other data."""
    realism_loss: Annotated[Literal["cross_entropy", "hinge"], Addition()] = "cross_entropy"
    """The critic's real/fake loss. The authors' cross-entropy rewards ever larger logits: in fits of a few thousand
    steps the critic runs away from the generator, which PLG-MI's `hinge` prevents."""


@PRIORS.register(TacganConfig)
class Tacgan(ConditionalPrior[BatchesWithTarget]):
    """Target-assisted conditional GAN: its critic learns the labels that the target model gives generated images.

    The generator is that of `plg_gan`. The target model sees images clipped to [0, 1], as it would through an interface
    that takes images; the authors show it the generator's raw output.

    Source: Nguyen et al., "Label-Only Model Inversion Attacks via Knowledge Transfer", NeurIPS 2023.
    """

    target_access = LabelOracle
    config: TacganConfig

    def __init__(self, config: TacganConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        self.critic = ClassifyingCritic(self.widths[::-1], channels=channels, classes=classes)
        self._warmed_up = False

    @property
    def _uses_hinge(self) -> bool:
        return self.config.realism_loss == "hinge"

    def realism(self, images: Tensor) -> Tensor:
        """The critic's logit of being real."""
        return self.critic(images)[0]

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> BatchesWithTarget:
        """Public images, with the target model that labels generated ones."""
        assert target is not None
        return BatchesWithTarget(on_device(images, context.device), context.device, target=target)

    def planned_queries(self, images: int) -> int:
        """Each generated batch after the warm-up."""
        config = self.config
        return (config.steps - math.ceil(config.warm_up * config.steps)) * config.batch_size

    def begin_step(self, step: int) -> None:
        """Add the classification losses once the warm-up is over."""
        self._warmed_up = step >= self.config.warm_up * self.config.steps

    @property
    def phase(self) -> bool:
        """Whether the classification losses are added."""
        return self._warmed_up

    def critic_loss(self, batches: BatchesWithTarget, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Real/fake loss, plus the weighted cross-entropy with the target's labels of generated images."""
        with torch.no_grad():
            fake, identities = self.generated_batch(draws, device=batches.device)
        of_fake, classes = self.critic(fake)
        of_real, _ = self.critic(batches.draw(self.config.batch_size, draws))
        loss = hinge(of_fake, of_real) if self._uses_hinge else F.softplus(of_fake).mean() + F.softplus(-of_real).mean()
        if not self._warmed_up:
            return loss, {"critic_loss": loss.detach()}
        labels = batches.target.labels(fake.clamp(0, 1))
        loss = loss + self.config.class_weight * F.cross_entropy(classes, labels)
        return loss, {"critic_loss": loss.detach(), "named_as_asked": (labels == identities).float().mean()}

    def generator_loss(self, batches: BatchesWithTarget, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Real/fake loss, plus the weighted cross-entropy of the critic's classes with those asked for."""
        fake, identities = self.generated_batch(draws, device=batches.device)
        of_fake, classes = self.critic(fake)
        loss = -of_fake.mean() if self._uses_hinge else F.softplus(-of_fake).mean()
        if self._warmed_up:
            loss = loss + self.config.class_weight * F.cross_entropy(classes, identities)
        return loss, {"generator_loss": loss.detach()}


class ClassifyingCritic(nn.Module):
    """Gives images a logit of being real and one of each class. Shape: (B, channels, H, W) to (B,), (B, classes)."""

    def __init__(self, widths: list[int], *, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(widths, channels=channels)
        self.real = nn.Linear(widths[-1], 1)
        self.classes = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Realism and class logits. Shape: (B, C, S, S) to (B,), (B, classes)."""
        features = self.trunk(images)
        return self.real(features).flatten(), self.classes(features)
