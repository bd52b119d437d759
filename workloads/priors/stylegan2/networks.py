"""The two networks of StyleGAN2: the generator, which builds images block by block, and the critic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.priors.stylegan2.layers import (
    TINY,
    DrawnLayer,
    GroupDeviation,
    ScaledConv,
    ScaledLinear,
    StyledConv,
    ToColours,
    doubled,
    normal_like,
)

SMALLEST = 4
"""Side of the smallest maps, in pixels."""
SIZES = tuple(2**power for power in range(3, 11))
"""Sides of images, in pixels."""
MAPPING_RATE = 0.01
MEAN_STYLE_DECAY = 0.995


@dataclass(frozen=True)
class Shape:
    """What both networks are built from."""

    channels: int
    """Colours of an image."""
    size: int
    """Side of an image, in pixels."""
    latent_size: int
    style_size: int
    mapping_layers: int
    widths: tuple[int, ...]
    """Channels of the maps of 4, 8, ... pixels."""
    clamp: float | None
    """Outputs of convolutions are clipped to plus and minus this."""


def widths(size: int, *, base: int, most: int) -> tuple[int, ...]:
    """Channels of the maps of S = 4, 8, ..., `size` pixels: base / S, at most `most`.

    Raises:
        ConfigError: if the size is not a power of two from 8 to 1024, or leaves no channel.
    """
    if size not in SIZES:
        raise ConfigError(
            f"resolution: stylegan2 makes images of {', '.join(map(str, SIZES))} pixels, not {size}: set it to one of "
            "them, and its images are resized to those of the data."
        )
    if base < size:
        raise ConfigError(f"channel_base: {base} leaves no channel at {size} pixels: raise it to {size} or more.")
    return tuple(min(base // 2**power, most) for power in range(2, int(math.log2(size)) + 1))


class Mapping(nn.Module):
    """Maps latents to styles, by layers with a small learning rate; latents are scaled to a mean square of 1.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019.
    """

    mean: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.latent_size = shape.latent_size
        sizes = [shape.latent_size] + [shape.style_size] * shape.mapping_layers
        self.layers = nn.Sequential(
            *(ScaledLinear(before, after, active=True, rate=MAPPING_RATE) for before, after in pairwise(sizes))
        )
        self.register_buffer("mean", torch.zeros(shape.style_size))

    def forward(self, latents: Tensor) -> Tensor:
        """Shape: (B, latent_size) to (B, style_size)."""
        return self.layers(latents * (latents.square().mean(1, keepdim=True) + TINY).rsqrt())

    @torch.no_grad()
    def update_mean(self, styles: Tensor) -> None:
        """Move the mean style towards the mean of a batch."""
        self.mean.copy_(torch.lerp(styles.to(self.mean).mean(0), self.mean, MEAN_STYLE_DECAY))


class Block(nn.Module):
    """Turns maps into maps of twice the side, and adds their colours to the image so far."""

    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        after = shape.widths[level]
        convolution = partial(StyledConv, style_size=shape.style_size, size=SMALLEST << level, clamp=shape.clamp)
        self.enlarge = convolution(shape.widths[level - 1], after, double=True) if level else None
        self.refine = convolution(after, after, double=False)
        self.to_colours = ToColours(after, shape.channels, style_size=shape.style_size, clamp=shape.clamp)

    def forward(
        self, maps: Tensor, image: Tensor | None, styles: Sequence[Tensor], draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Run the block. `styles` are those of its convolutions and, last, of its colours."""
        if self.enlarge is not None:
            maps = self.enlarge(maps, styles[0], draws)
        maps = self.refine(maps, styles[-2], draws)
        colours = self.to_colours(maps, styles[-1])
        return maps, colours if image is None else doubled(image) + colours


class Generator(DrawnLayer):
    """Mapping and blocks. The image is the sum of all blocks' colours, roughly in [-1, 1].

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 4.1 (skips).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.mapping = Mapping(shape)
        self.constant = nn.Parameter(torch.zeros(shape.widths[0], SMALLEST, SMALLEST))
        self.blocks = nn.ModuleList(Block(shape, level) for level in range(len(shape.widths)))

    def draw_weights(self, draws: torch.Generator) -> None:
        """Draw the constant that images grow from."""
        self.constant.copy_(normal_like(self.constant, draws))

    @property
    def layers(self) -> int:
        """Styles of an image: one per convolution, and one for the last colours."""
        return 2 * len(self.blocks)

    def run(
        self,
        styles: Tensor,
        maps: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int | None = None,
        draws: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run blocks `first` to `last` (None: the last one). Returns maps and image after them.

        Noise is drawn anew from `draws`, or is that stored in the layers if None.

        Shape: styles (B, layers, style_size); maps and image (B, C, H, W).
        """
        last = len(self.blocks) - 1 if last is None else last
        if first == 0:
            maps = self.constant.expand(len(styles), -1, -1, -1)
        for level in range(first, last + 1):
            # Colours share their style with the next block's first convolution.
            block_styles = styles[:, max(2 * level - 1, 0) : 2 * level + 2].unbind(1)
            maps, image = self.blocks[level](maps, image, block_styles, draws)
        assert maps is not None and image is not None
        return maps, image


class CriticBlock(nn.Module):
    """Two convolutions that halve the side, with a linear shortcut around them.

    Source: Karras et al., CVPR 2020, section 4.1 (residual discriminator).
    """

    def __init__(self, before: int, after: int, clamp: float | None) -> None:
        super().__init__()
        self.refine = ScaledConv(before, before, 3, clamp=clamp)
        self.shrink = ScaledConv(before, after, 3, halve=True, clamp=clamp)
        self.around = ScaledConv(before, after, 1, halve=True, active=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Shape: (B, C, H, W) to (B, C', H/2, W/2)."""
        return (self.around(maps) + self.shrink(self.refine(maps))) * math.sqrt(0.5)


class Critic(nn.Module):
    """Gives each image a logit of being real."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        sizes = shape.widths[::-1]
        last = sizes[-1]
        self.from_colours = ScaledConv(shape.channels, sizes[0], 1, clamp=shape.clamp)
        self.blocks = nn.Sequential(*(CriticBlock(before, after, shape.clamp) for before, after in pairwise(sizes)))
        self.deviation = GroupDeviation()
        self.refine = ScaledConv(last + 1, last, 3, clamp=shape.clamp)
        self.hidden = ScaledLinear(last * SMALLEST**2, last, active=True)
        self.judge = ScaledLinear(last, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Shape: (B, C, S, S) in [-1, 1] to (B,)."""
        maps = self.deviation(self.blocks(self.from_colours(images)))
        return self.judge(self.hidden(self.refine(maps).flatten(1))).flatten()
