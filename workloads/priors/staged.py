"""Priors that build images from styles, block by block, so that an attack can begin at a block in the middle."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from workloads.priors.base import Prior


class StagedPrior(Prior):
    """A mapping from latents to styles, and blocks that each refine the features and add colours to an image.

    Attacks optimise one style, which `synthesize` repeats for all layers.
    """

    layers: int
    """Styles of one image."""
    blocks: int
    """Blocks of the network, each with maps of twice the side of the one before."""
    style_size: int
    """Numbers in one style."""

    @abstractmethod
    def styles(self, latents: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Map latents to styles, the first `cutoff` of them (None: all) truncated towards their mean (1: not at all).

        Shape: (B, latent_size) to (B, layers, style_size).
        """

    @abstractmethod
    def run_blocks(
        self,
        styles: Tensor,
        features: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run blocks `first` to `last` (None: the last one). Returns features and image after them.

        The image has values of roughly [-1, 1]. Without `image` it holds only the colours of the blocks that were run.

        Shape: styles (B, layers, style_size); features and image (B, C, H, W), as an earlier call left them.
        """

    def map(self, latents: Tensor) -> Tensor:
        """The first of an image's styles. Shape: (B, Z) to (B, S)."""
        return self.styles(latents)[:, 0]

    def truncate(self, styles: Tensor, *, truncation: float, cutoff: int) -> Tensor:
        """Interpolate the first `cutoff` styles between their mean (0) and themselves (1).

        Shape: (B, layers, style_size), unchanged.
        """
        mean = self.styles(styles.new_zeros(1, self.latent_size), truncation=0.0)
        truncated = mean.lerp(styles, truncation)
        return torch.cat((truncated[:, :cutoff], styles[:, cutoff:]), 1)

    def repeat_style(self, style: Tensor) -> Tensor:
        """Use one style for all layers. Shape: (B, style_size) to (B, layers, style_size)."""
        return style[:, None].expand(-1, self.layers, -1)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Make images from one style each, roughly in [0, 1], not clipped. Shape: (B, style_size) to (B, C, H, W)."""
        return self.to_data_image(self.run_blocks(self.repeat_style(latents))[1])

    def to_data_image(self, image: Tensor) -> Tensor:
        """Bring the last image of `run_blocks` to the data's range and size: roughly [0, 1], `image_size` pixels."""
        return image / 2 + 0.5
