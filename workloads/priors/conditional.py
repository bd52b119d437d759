"""Priors whose images depend on the identity: a residual generator, what it is fitted against left open."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.priors.adversarial import AdversarialConfig, AdversarialPrior, Beta
from workloads.priors.residual import ResidualGenerator, draw_weights
from workloads.priors.wgan_gp import layer_widths


class ConditionalConfig(AdversarialConfig):
    """How a class-conditional residual generator is fitted against a critic."""

    latent_size: PositiveInt = 128
    betas: tuple[Beta, Beta] = (0.0, 0.9)
    width: PositiveInt = 64
    """Channels of the largest maps; those of the others are multiples of it."""


class ConditionalPrior(AdversarialPrior):
    """A class-conditional residual generator at 32 or 64 pixels; at 32, one block is left out.

    It ends in a hyperbolic tangent, and is fitted on images in [0, 1]: so images fall into that range once it is
    fitted, and only nearly.
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
        assert identities is not None, "a conditional prior is told whose images to make"
        return self.generator(latents, identities)

    def draw_weights(self, draws: torch.Generator) -> None:
        draw_weights(self, draws)

    def generated_batch(self, draws: torch.Generator, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """A batch of made images, and the classes they were asked for, each as likely as another."""
        identities = torch.randint(self.classes, (self.config.batch_size,), generator=draws).to(device)
        return self.generator(self.draw_latents(draws, device=device), identities), identities
