"""What fitting StyleGAN2 needs beside its losses: R1 penalty, path lengths, style mixing, an average of weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workloads.core.numerics import at_least_fp32
from workloads.priors.stylegan2.networks import Generator

PATH_LENGTH_DECAY = 0.99
RAMP = 0.05
"""The average's half-life is at most this share of the images seen so far."""


class PathLengths(nn.Module):
    """The path length penalty: how far images move when their styles move, compared with its mean over the fit.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3.2.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros([]))

    def penalty(self, images: Tensor, styles: Tensor, draws: torch.Generator) -> Tensor:
        """Mean squared difference of the path lengths from their moving mean, which this batch updates first.

        Shape: images (B, C, S, S), generated from styles (B, layers, style_size).
        """
        lengths = path_lengths(images, styles, draws).to(self.mean)
        mean = torch.lerp(lengths.mean(), self.mean, PATH_LENGTH_DECAY)
        self.mean.copy_(mean.detach())
        return (lengths - mean).square().mean()


def path_lengths(images: Tensor, styles: Tensor, draws: torch.Generator) -> Tensor:
    """How far each image moves when its styles move: the norm of the gradient of a random projection of the image.

    The projection's noise has variance 1 per colour; squares are averaged over layers. Differentiable.

    Shape: (B, C, S, S), (B, layers, style_size) to (B,).
    """
    noise = torch.randn(images.shape, generator=draws, device=images.device).to(images)
    noise = noise / math.sqrt(images[0, 0].numel())
    (gradients,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return at_least_fp32(gradients).square().sum(2).mean(1).sqrt()


def gradient_penalty(values: Tensor, images: Tensor) -> Tensor:
    """R1: mean squared norm of the gradient of a critic's values with respect to its images; differentiable.

    Shape: values (B,), images (B, C, S, S).

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, section 4.1 (R1).
    """
    (gradients,) = torch.autograd.grad(values.sum(), images, create_graph=True)
    return gradients.square().sum((1, 2, 3)).mean()


def mixed_styles(generator: Generator, latents: Tensor, *, mixing: float, draws: torch.Generator) -> Tensor:
    """Styles of the first latents; with probability `mixing`, those of the second ones from a random layer on.

    The mapping's mean style moves towards the styles of the first.

    Shape: (2, B, latent_size) to (B, layers, style_size).
    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019, section 3.1.
    """
    styles = generator.mapping(latents[0])
    generator.mapping.update_mean(styles)
    chance, position = torch.rand(2, generator=draws, device=latents.device)
    crossing = 1 + (position * (generator.layers - 1)).floor()
    layer = torch.arange(generator.layers, device=latents.device)
    is_second = (chance < mixing) & (layer >= crossing)  # decided on the device: nobody waits for the number
    return torch.where(is_second[:, None], generator.mapping(latents[1])[:, None], styles[:, None])


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, *, seen: int, batch: int, half_life: float) -> None:
    """Update the moving average of a network's weights by one batch, after `seen` images; buffers are copied."""
    decay = 0.5 ** (batch / max(min(half_life, RAMP * seen), 1e-8))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    torch._foreach_copy_(list(average.buffers()), list(network.buffers()))
