"""Residual networks of class-conditional priors: a generator with class-conditional norms, parts of a critic.

Source: Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018, as Yuan et al., "Pseudo Label-Guided Model
Inversion Attack", AAAI 2023, shape them.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from workloads.core.numerics import full_precision
from workloads.core.resampling import resize
from workloads.priors.enlarging import enlarged_convolution

Layer = TypeVar("Layer", bound=nn.Module)


class ConditionalNorm(nn.Module):
    """Batch norm with one scale and one shift per class.

    Shape: (B, C, H, W), (B,) int64 to (B, C, H, W).
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Parameter(torch.ones(classes, channels))
        self.shift = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, maps: Tensor, identities: Tensor) -> Tensor:
        """Batch norm with scale and shift of each row's class. Shape: (B, C, H, W), kept."""
        scale, shift = F.embedding(identities, self.scale), F.embedding(identities, self.shift)
        if self.training:
            maps = self.norm(maps)
        else:  # statistics are constant here: folded into scale and shift, they save a pass over the maps
            assert self.norm.running_mean is not None and self.norm.running_var is not None
            scale = scale * (self.norm.running_var + self.norm.eps).rsqrt()
            shift = shift - self.norm.running_mean * scale
        return torch.addcmul(shift[:, :, None, None], maps, scale[:, :, None, None])

    def reset_parameters(self) -> None:
        """Set scales to 1, shifts to 0, and forget the statistics."""
        self.norm.reset_parameters()
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)


class UpBlock(nn.Module):
    """Doubles the side of its maps. Shape: (B, before, H, W), (B,) to (B, after, 2H, 2W)."""

    def __init__(self, before: int, after: int, classes: int) -> None:
        super().__init__()
        self.first_norm = ConditionalNorm(before, classes)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second_norm = ConditionalNorm(after, classes)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, maps: Tensor, identities: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C', 2H, 2W)."""
        inner = enlarged_convolution(F.relu(self.first_norm(maps, identities)), self.first)
        inner = self.second(F.relu(self.second_norm(inner, identities)))
        # A 1 x 1 convolution commutes with enlarging, and costs a quarter when it comes first.
        return inner + resize(self.shortcut(maps), (inner.shape[2], inner.shape[3]))


class ResidualGenerator(nn.Module):
    """Makes images of classes from latents.

    Shape: (B, latent_size), (B,) int64 to (B, channels, S, S) in (-1, 1), S = 4 * 2^(len(widths) - 1).
    """

    def __init__(self, latent_size: int, widths: list[int], *, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(latent_size, widths[0] * 16)
        self.blocks = nn.ModuleList(UpBlock(before, after, classes) for before, after in itertools.pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.colours = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, latents: Tensor, identities: Tensor) -> Tensor:
        """Images in [-1, 1]. Shape: (B, Z), (B,) to (B, C, S, S)."""
        maps = self.stem(latents).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            maps = block(maps, identities)
        return self.colours(F.relu(self.norm(maps))).tanh()


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value; each pass in training mode improves the estimate.

    torch's version takes the two half-steps of the power iteration in the other order and draws from the global
    generator.

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, algorithm 1.
    """

    left: Tensor
    right: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        """`rows` and `columns` are those of the weight as a matrix."""
        super().__init__()
        self.register_buffer("left", torch.full((rows,), rows**-0.5))
        self.register_buffer("right", torch.full((columns,), columns**-0.5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its largest singular value, by one power iteration in training."""
        matrix, left, right = weight.flatten(1), self.left, self.right
        with full_precision(weight.device):
            if self.training:
                with torch.no_grad():  # new tensors: an earlier pass may still need the old ones for its gradient
                    right = F.normalize(matrix.T @ left, dim=0)
                    left = F.normalize(matrix @ right, dim=0)
                    self.right.copy_(right)  # in place, since a recorded pass finds them where they were
                    self.left.copy_(left)
            return weight / (left @ matrix @ right)

    def draw(self, generator: torch.Generator) -> None:
        """Restart the estimate from a random direction."""
        self.left = F.normalize(torch.randn(len(self.left), generator=generator), dim=0).to(self.left)


def spectral(layer: Layer) -> Layer:
    """Make the layer divide its weight by its largest singular value wherever it is read; returns the layer."""
    weight = layer.get_parameter("weight")
    norm = SpectralNorm(*weight.flatten(1).shape)
    parametrize.register_parametrization(layer, "weight", norm, unsafe=True)  # its checks would run the iteration
    return layer


class DownBlock(nn.Module):
    """Halves the side of its maps. Shape: (B, before, H, W) to (B, after, H/2, W/2)."""

    def __init__(self, before: int, after: int, *, reads_images: bool = False) -> None:
        super().__init__()
        inner = after if reads_images else before
        self.activate = nn.Identity() if reads_images else nn.ReLU()
        self.first = spectral(nn.Conv2d(before, inner, 3, padding=1))
        self.second = spectral(nn.Conv2d(inner, after, 3, padding=1))
        self.shortcut = spectral(nn.Conv2d(before, after, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C', H/2, W/2)."""
        inner = self.second(F.relu(self.first(self.activate(maps))))
        # A 1 x 1 convolution commutes with averaging, and costs a quarter when it comes last.
        return F.avg_pool2d(inner, 2) + self.shortcut(F.avg_pool2d(maps, 2))


class Trunk(nn.Module):
    """Extracts features of images, summed over the remaining pixels. Shape: (B, channels, H, W) to (B, widths[-1])."""

    def __init__(self, widths: list[int], *, channels: int) -> None:
        super().__init__()
        deeper = (DownBlock(before, after) for before, after in itertools.pairwise(widths))
        self.blocks = nn.Sequential(DownBlock(channels, widths[0], reads_images=True), *deeper)

    def forward(self, images: Tensor) -> Tensor:
        """Features summed over pixels. Shape: (B, C, S, S) to (B, F)."""
        return F.relu(self.blocks(images)).sum((2, 3))


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew by Xavier's uniform rule, with twice the variance for 3 x 3 filters; biases become 0.

    Raises:
        TypeError: if a layer with parameters is of a type for which no initialisation is known.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (ConditionalNorm, nn.BatchNorm2d)):
                layer.reset_parameters()
            elif isinstance(layer, SpectralNorm):
                layer.draw(generator)
            elif isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
                weight, bias = _stored_weight(layer), getattr(layer, "bias", None)
                gain = math.sqrt(2) if weight.shape[2:] == (3, 3) else 1.0
                nn.init.xavier_uniform_(weight, gain, generator=generator)
                if bias is not None:
                    bias.zero_()
            elif dict(layer.named_parameters(recurse=False)) and not isinstance(layer, parametrize.ParametrizationList):
                raise TypeError(f"no initialisation known for {type(layer).__name__}")


def _stored_weight(layer: nn.Module) -> Tensor:
    """The learned weight, before any norm is applied."""
    if parametrize.is_parametrized(layer, "weight"):
        return layer.get_parameter("parametrizations.weight.original")
    return layer.get_parameter("weight")
