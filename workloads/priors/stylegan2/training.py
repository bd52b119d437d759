"""What StyleGAN2 is trained with beside its losses: slopes of the critic, path lengths, mixed styles, an average."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workloads.priors.stylegan2.networks import Generator

PATHS_REMEMBERED = 0.99
RAMP = 0.05
"""The average's half-life is at most this part of the images seen so far."""


class PathLengths(nn.Module):
    """How far images move for a step of their styles, and the mean of that over training.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3.2.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros([]))

    def penalty(self, images: Tensor, styles: Tensor, draws: torch.Generator) -> Tensor:
        """Mean square of how far the lengths are from their mean, which moves towards those of this batch first.

        Shape: images (B, C, S, S) made from styles (B, layers, style_size).
        """
        lengths = path_lengths(images, styles, draws)
        mean = torch.lerp(lengths.mean(), self.mean, PATHS_REMEMBERED)
        self.mean.copy_(mean.detach())
        return (lengths - mean).square().mean()


def path_lengths(images: Tensor, styles: Tensor, draws: torch.Generator) -> Tensor:
    """Norm of the gradient of images times noise of variance 1 a colour, over styles; layers averaged as squares.

    Shape: (B, C, S, S), (B, layers, style_size) to (B,); differentiable.
    """
    noise = torch.randn(images.shape, generator=draws).to(images) / math.sqrt(images[0, 0].numel())
    (slopes,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return slopes.square().sum(2).mean(1).sqrt()


def slope_penalty(values: Tensor, images: Tensor) -> Tensor:
    """Mean squared norm of the gradient of a critic's values (B,) over the images they judge; differentiable.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, section 4.1 (R1).
    """
    (slopes,) = torch.autograd.grad(values.sum(), images, create_graph=True)
    return slopes.square().sum((1, 2, 3)).mean()


def mixed_styles(generator: Generator, latents: Tensor, *, mixing: float, draws: torch.Generator) -> Tensor:
    """Styles of the first latents; with probability `mixing` those from some layer on are of the second ones.

    The mean style moves towards those of the first.

    Shape: (2, B, latent_size) to (B, layers, style_size).
    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019, section 3.1.
    """
    styles = generator.mapping(latents[0])
    generator.mapping.remember(styles)
    styles = styles[:, None].expand(-1, generator.layers, -1)
    chance, place = torch.rand(2, generator=draws).tolist()
    if chance >= mixing:
        return styles
    crossing = 1 + int(place * (generator.layers - 1))
    others = generator.mapping(latents[1])[:, None].expand_as(styles)
    return torch.cat((styles[:, :crossing], others[:, crossing:]), 1)


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, *, seen: int, batch: int, half_life: float) -> None:
    """Move the averages of weights by one batch, when so many images have been seen before; buffers are copied."""
    kept = 0.5 ** (batch / max(min(half_life, RAMP * seen), 1e-8))
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.copy_(torch.lerp(weight, mean, kept))
    for copied, buffer in zip(average.buffers(), network.buffers(), strict=True):
        copied.copy_(buffer)
