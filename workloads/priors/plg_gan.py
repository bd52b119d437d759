"""PLG-MI's prior: a conditional GAN on public images that the target model has labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.datasets.resident import on_device
from workloads.observation.losses import margin
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, ViewConfig
from workloads.priors.adversarial import PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.conditional import ConditionalConfig, ConditionalPrior
from workloads.priors.recorded_updates import Scalars
from workloads.priors.residual import Trunk, spectral

QUERY_BATCH = 256
GREY_LEVELS = 256


@dataclass(frozen=True)
class PseudoLabelledBatches(PublicBatches):
    """Public images, and for each class the indices of those that stand for it.

    Shape: images_of_class (classes, count) int64, on the device.
    """

    target: WhiteBoxOracle
    images_of_class: Tensor

    def draw_labelled(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images with noise below one grey level, and the class of each.

        Shape: (count, C, H, W) in [0, 1 + 1/256], (count,) int64.
        """
        picks = torch.randint(self.images_of_class.numel(), (count,), generator=draws, device=self.device)
        images = self.images_at(self.images_of_class.flatten()[picks])
        noise = torch.rand(images.shape, generator=draws, device=self.device).to(images) / GREY_LEVELS
        return images + noise, picks // self.images_of_class.shape[1]


class PlgGanConfig(ConditionalConfig):
    """Settings of PLG-MI's GAN. Defaults follow the authors' code, except `steps`: theirs are 150,000."""

    version: ClassVar[int] = 4
    kind: Literal["plg_gan"] = "plg_gan"
    images_per_class: PositiveInt = 30
    """Public images per class: those to which the target model gives it the largest probability. Classes may share
    images."""
    margin_weight: NonNegativeFloat = 0.2
    """Weight of the target model's margin loss in the generator's loss."""
    view: ViewConfig = ViewConfig(
        scale=(0.8, 1.0), brightness=0.2, contrast=0.2, jitter_probability=0.5, flip=0.5, rotation=5.0
    )
    """Random changes to generated images before the target model sees them."""


@PRIORS.register(PlgGanConfig)
class PlgGan(ConditionalPrior[PseudoLabelledBatches]):
    """Class-conditional GAN on pseudo-labelled public images, guided by the target model.

    At 64 pixels, 3 channels and 1000 classes the networks have 17,973,379 and 11,165,441 parameters, as in the authors'
    code. There every layer's bias begins as torch draws it; here biases begin at 0.

    Source: Yuan et al., "Pseudo Label-Guided Model Inversion Attack via Conditional Generative Adversarial Network",
    AAAI 2023.
    """

    target_access = WhiteBoxOracle
    config: PlgGanConfig

    def __init__(self, config: PlgGanConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        self.critic = ProjectionCritic(self.widths[::-1], channels=channels, classes=classes)

    def realism(self, images: Tensor) -> Tensor:
        """The part of the critic's value that does not depend on the class."""
        return self.critic(images)

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PseudoLabelledBatches:
        """Find the public images that stand for each class, by querying the target about all of them.

        Raises:
            ConfigError: if there are fewer distinct images than each class needs.
        """
        assert isinstance(target, WhiteBoxOracle)
        count = self.config.images_per_class
        images = images.unique(dim=0)  # copies would take the places of other images of a class
        if len(images) < count:
            raise ConfigError(
                f"prior.images_per_class: each class needs {count} different public images, but there are only "
                f"{len(images)}: lower it or give more public images."
            )
        indices = pseudo_labels(images, target, count=count, device=context.device)
        return PseudoLabelledBatches(
            on_device(images, context.device),
            context.device,
            target=target,
            images_of_class=indices.to(context.device),
        )

    def critic_loss(self, batches: PseudoLabelledBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Hinge loss on generated images and on pseudo-labelled public ones, given their classes."""
        with torch.no_grad():
            fake, identities = self.generated_batch(draws, device=batches.device)
        real, labels = batches.draw_labelled(self.config.batch_size, draws)
        loss = hinge(self.critic(fake, identities), self.critic(real, labels))
        return loss, {"critic_loss": loss.detach()}

    def generator_loss(self, batches: PseudoLabelledBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Minus the critic's value, plus the weighted margin loss of the target model on random views."""
        fake, identities = self.generated_batch(draws, device=batches.device)
        realism = self.critic(fake, identities).mean()
        view = RandomView(self.config.view)
        views = view.change(fake, lambda size: torch.rand(len(fake), size, generator=draws, device=fake.device))
        margins = margin(batches.target.logits(views), identities).mean()
        return self.config.margin_weight * margins - realism, {"margin": margins.detach()}


class ProjectionCritic(nn.Module):
    """Scores how real images look for their classes; without classes, the part of the score that ignores them.

    Shape: (B, channels, H, W), (B,) int64 to (B,).
    """

    def __init__(self, widths: list[int], *, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(widths, channels=channels)
        self.value = spectral(nn.Linear(widths[-1], 1))
        self.embedding = spectral(nn.Embedding(classes, widths[-1]))

    def forward(self, images: Tensor, identities: Tensor | None = None) -> Tensor:
        """The value, plus the projection on the class if there is one."""
        features = self.trunk(images)
        values = self.value(features).flatten()
        return values if identities is None else values + (features * self.embedding(identities)).sum(1)


def hinge(fake: Tensor, real: Tensor) -> Tensor:
    """Hinge loss of a critic from its values of generated and of real images, a scalar.

    The generator's loss is minus the mean value of generated images.
    """
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def pseudo_labels(images: Tensor, target: ScoreOracle, *, count: int, device: torch.device) -> Tensor:
    """For each class, the images to which the target model gives the largest probability of it, best first.

    The target is queried once about every image.

    Shape: (N, C, H, W) uint8 to (classes, count) int64.
    """
    batches = (batch.to(device).float().div(255) for batch in images.split(QUERY_BATCH))
    confidences = torch.cat([target.probabilities(batch).cpu() for batch in batches])
    return confidences.topk(count, dim=0).indices.T
