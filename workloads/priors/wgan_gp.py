"""The GMI generator and critic, fitted as a Wasserstein GAN with gradient penalty."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from workloads.context import JobContext
from workloads.core.errors import ConfigError
from workloads.datasets.resident import on_device
from workloads.observation.oracles import LabelOracle
from workloads.priors.adversarial import AdversarialPrior, AveragedConfig, PublicBatches
from workloads.priors.base import PRIORS
from workloads.priors.recorded_updates import Scalars


class WganGpConfig(AveragedConfig):
    """Settings of GMI's GAN. Defaults follow the authors' code, except `steps`: theirs come to 131,000.

    For fits of a few thousand steps, set the betas of Gulrajani et al., (0.0, 0.9), and `ema`: on 10,000 faces of
    32 pixels, the distance to public images in quality.json was then 20 times smaller after 6,000 steps.
    """

    version: ClassVar[int] = 2
    kind: Literal["wgan_gp"] = "wgan_gp"
    width: PositiveInt = 64
    """Channels of the generator's last hidden and the critic's first layer; the other layers are multiples of it."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the penalty on gradients of the critic whose norm is not 1."""


@PRIORS.register(WganGpConfig)
class WganGp(AdversarialPrior[PublicBatches]):
    """DCGAN-like generator with a WGAN-GP critic, at 32 or 64 pixels.

    At 64 pixels and 3 channels the networks have 5,142,083 and 4,316,545 parameters, as in the authors' code; at
    32 pixels the first doubling and its width are left out.

    Source: Zhang et al., "The Secret Revealer", CVPR 2020; Gulrajani et al., NeurIPS 2017, algorithm 1.
    """

    config: WganGpConfig

    def __init__(self, config: WganGpConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__(config, channels=channels, image_size=image_size, classes=classes)
        widths = layer_widths(config.kind, config.width, image_size)
        self.latent_size = config.latent_size
        self.generator = dcgan_generator(config.latent_size, widths, channels)
        self.critic = _critic(list(reversed(widths)), channels)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Images of latents; identities have no part in it."""
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        """The critic's value, unbounded."""
        return self.critic(images).flatten()

    def public_batches(self, images: Tensor, target: LabelOracle | None, context: JobContext) -> PublicBatches:
        """Public images alone."""
        return PublicBatches(on_device(images, context.device), context.device)

    def critic_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Minus the estimated Wasserstein distance, plus the gradient penalty."""
        real = batches.draw(self.config.batch_size, draws)
        with torch.no_grad():
            fake = self.generator(self.draw_latents(draws, device=real.device))
        distance = self.realism(real).mean() - self.realism(fake).mean()
        share = torch.rand(len(real), 1, 1, 1, generator=draws, device=real.device)
        mixed = (real + share * (fake - real)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.realism(mixed).sum(), mixed, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        return self.config.gradient_penalty * penalty - distance, {"wasserstein_distance": distance.detach()}

    def generator_loss(self, batches: PublicBatches, draws: torch.Generator) -> tuple[Tensor, Scalars]:
        """Minus the critic's mean value of generated images."""
        return -self.realism(self.generator(self.draw_latents(draws, device=batches.device))).mean(), {}


def layer_widths(kind: str, width: int, image_size: int) -> list[int]:
    """Channels of the feature maps of 4, 8, ... pixels, up to half the image's size.

    Raises:
        ConfigError: if the size is neither 32 nor 64 pixels.
    """
    if image_size not in (32, 64):
        raise ConfigError(f"{kind} makes images of 32 or 64 pixels, not {image_size}: set image_size to one of them.")
    doublings = int(math.log2(image_size // 4))  # from 4 x 4
    return [width * 2**level for level in reversed(range(doublings))]


def dcgan_generator(latent_size: int, widths: list[int], channels: int) -> nn.Sequential:
    """Build a DCGAN-like generator.

    Shape: (B, latent_size) to (B, channels, S, S) in [0, 1], S = 4 * 2^len(widths).
    """
    first = widths[0]
    layers: list[nn.Module] = [
        nn.Linear(latent_size, first * 16, bias=False),
        nn.BatchNorm1d(first * 16),
        nn.ReLU(),
        nn.Unflatten(1, (first, 4, 4)),
    ]
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(widths[-1], channels, 5, stride=2, padding=2, output_padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers)


def _critic(widths: list[int], channels: int) -> nn.Sequential:
    """Shape: (B, channels, S, S) to (B, 1, 1, 1), S = 4 * 2^len(widths)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 5, stride=2, padding=2),
            nn.InstanceNorm2d(after, affine=True),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))
