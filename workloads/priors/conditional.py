"""Class-conditional priors: a residual generator that takes a latent and an identity; the critic is left open."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.core.config import Beta
from workloads.priors.adversarial import AdversarialPrior, AveragedConfig, Batches
from workloads.priors.residual import ResidualGenerator, draw_weights
from workloads.priors.wgan_gp import layer_widths


class ConditionalConfig(AveragedConfig):
    """How a class-conditional residual generator is fitted against a critic."""

    latent_size: PositiveInt = 128
    """Numbers in one latent."""
    betas: tuple[Beta, Beta] = (0.0, 0.9)
    """Decay rates of Adam's two moving averages, for both networks."""
    width: PositiveInt = 64
    """Channels of the largest feature maps; smaller maps have multiples of it."""


class ConditionalPrior(AdversarialPrior[Batches]):
    """A class-conditional residual generator at 32 or 64 pixels; at 32, one block is left out.

    It ends in a hyperbolic tangent but is fitted on images in [0, 1], so after fitting its images lie in that range
    only approximately.
    """

    conditional = True
    generator_first = True
    config: ConditionalConfig

    def __init__(self, config: ConditionalConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        inner = layer_widths(config.kind, config.width, image_size)
        self.widths = [2 * inner[0], *inner]
        self.latent_size = config.latent_size
        self.generator = ResidualGenerator(config.latent_size, self.widths, channels=channels, classes=classes)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Images of latents and identities, which must be given."""
        assert identities is not None, "a conditional prior needs the identities of the images to make"
        return self.generator(latents, identities)

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw every weight anew, as `residual.draw_weights` does."""
        draw_weights(self, draws)

    def generated_batch(self, draws: torch.Generator, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Generate a batch for classes drawn uniformly. Returns the images and these classes.

        Shape: (batch_size, C, H, W), (batch_size,) int64.
        """
        identities = torch.randint(self.classes, (self.config.batch_size,), generator=draws, device=device)
        return self.generator(self.draw_latents(draws, device=device), identities), identities
