"""PLG-MI's prior: a conditional GAN on public images that the target model itself has labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.observation.objectives import margin
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.adversarial import Figures, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.conditional import ConditionalConfig, ConditionalPrior
from workloads.priors.residual import Trunk, spectral

ASKED_AT_ONCE = 256
GREY_LEVELS = 256


class PlgGanConfig(ConditionalConfig):
    """Defaults are those of the authors' code, but for `steps`: theirs are 150,000."""

    version: ClassVar[int] = 2
    kind: Literal["plg_gan"] = "plg_gan"
    images_per_class: PositiveInt = 30
    """Public images that show a class: those in which the target model sees it most. Classes may share some."""
    margin_weight: NonNegativeFloat = 0.2
    """Of the target model's margin loss in the generator's."""
    view: ViewConfig = ViewConfig(
        scale=(0.8, 1.0), brightness=0.2, contrast=0.2, jitter_probability=0.5, flip=0.5, rotation=5.0
    )
    """How made images are varied before the target model sees them."""


@PRIORS.register(PlgGanConfig)
class PlgGan(ConditionalPrior):
    """Class-conditional GAN on pseudo-labelled public images, guided by the target model.

    At 64 pixels, 3 channels and 1000 classes these are the 17,973,379 and 11,165,441 parameters of the authors'
    networks. They begin every layer's bias as torch does; here biases begin at 0.

    Source: Yuan et al., "Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network",
    AAAI 2023.
    """

    target_access = WhiteBoxOracle
    config: PlgGanConfig

    def __init__(self, config: PlgGanConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        self.critic = ProjectionCritic(self.widths[::-1], channels=channels, classes=classes)

    def realism(self, images: Tensor) -> Tensor:
        """The part of the critic's value that does not depend on a class."""
        return self.critic(images)

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PseudoLabelledBatches:
        assert isinstance(target, WhiteBoxOracle)
        wanted = self.config.images_per_class
        images = images.unique(dim=0)  # a copy would take the place of another image of its class
        if len(images) < wanted:
            raise ConfigError(
                f"prior.images_per_class: each class is to be shown by {wanted} public images, but there are only "
                f"{len(images)}: lower it or give more public images."
            )
        shown = pseudo_labels(images, target, count=wanted, device=context.device)
        return PseudoLabelledBatches(images, context.device, target=target, shown=shown)

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        assert isinstance(batches, PseudoLabelledBatches)
        with torch.no_grad():
            fake, asked = self.generated_batch(draws, device=batches.device)
        real, named = batches.draw_labelled(self.config.batch_size, draws)
        loss = hinge(self.critic(fake, asked), self.critic(real, named))
        return loss, {"critic_loss": loss.detach()}

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Figures]:
        assert isinstance(batches, PseudoLabelledBatches)
        fake, asked = self.generated_batch(draws, device=batches.device)
        realism = self.critic(fake, asked).mean()
        seen = RandomView(self.config.view)(fake, [draws] * len(fake))
        margins = margin(batches.target.logits(seen), asked).mean()
        return self.config.margin_weight * margins - realism, {"margin": margins.detach()}


class ProjectionCritic(nn.Module):
    """Shape: (B, channels, H, W), (B,) int64 to (B,); without classes, the part that does not depend on them."""

    def __init__(self, widths: list[int], *, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(widths, channels=channels)
        self.value = spectral(nn.Linear(widths[-1], 1))
        self.embedding = spectral(nn.Embedding(classes, widths[-1]))

    def forward(self, images: Tensor, identities: Tensor | None = None) -> Tensor:
        features = self.trunk(images)
        values = self.value(features).flatten()
        return values if identities is None else values + (features * self.embedding(identities)).sum(1)


def hinge(fake: Tensor, real: Tensor) -> Tensor:
    """The critic's loss by its values of made and of real images, a scalar.

    The generator's is minus the mean value of made images.
    """
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def pseudo_labels(images: Tensor, target: ScoreOracle, *, count: int, device: torch.device) -> Tensor:
    """For each class the images to which the teacher gives the largest probability of it, best first.

    The target is asked once about every image.

    Shape: (N, C, H, W) uint8 to (classes, count) int64.
    """
    batches = (batch.to(device).float().div(255) for batch in images.split(ASKED_AT_ONCE))
    confidences = torch.cat([target.probabilities(batch).cpu() for batch in batches])
    return confidences.topk(count, dim=0).indices.T


@dataclass(frozen=True)
class PseudoLabelledBatches(PublicBatches):
    """Public images with classes that the target model saw in them. Shape: shown (classes, count) int64."""

    target: WhiteBoxOracle
    shown: Tensor

    def draw_labelled(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images between their grey levels, and a class of each. Shape: (count, C, H, W) from 0 on, (count,) int64."""
        picks = torch.randint(self.shown.numel(), (count,), generator=draws)
        images = self.images_at(self.shown.flatten()[picks])
        noise = torch.rand(images.shape, generator=draws).to(images) / GREY_LEVELS
        return images + noise, (picks // self.shown.shape[1]).to(self.device)
