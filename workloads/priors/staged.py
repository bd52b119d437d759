"""Priors whose images are made block by block from styles, so that an attack may begin in the middle."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from workloads.priors.base import Prior


class StagedPrior(Prior):
    """A mapping from latents to styles, and blocks that each add detail to features and colours to an image.

    Attacks move one style, which `synthesize` repeats to all layers.
    """

    layers: int
    """Styles of one image."""
    blocks: int
    style_size: int

    @abstractmethod
    def styles(self, latents: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Styles, the first `cutoff` of them (all where None) pulled to their mean by `truncation` (1 leaves them).

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
        """Features and image after block `last` (the last one where None), from those before block `first`.

        The image holds values of about [-1, 1] and only the colours of the blocks run, where none is given.

        Shape: styles (B, layers, style_size); features and image (B, C, H, W), as an earlier call left them.
        """

    def map(self, latents: Tensor) -> Tensor:
        return self.styles(latents)[:, 0]

    def truncate(self, styles: Tensor, *, truncation: float, cutoff: int) -> Tensor:
        """The styles, the first `cutoff` of them pulled to their mean. Shape: (B, layers, style_size), kept."""
        mean = self.styles(styles.new_zeros(1, self.latent_size), truncation=0.0)
        pulled = mean.lerp(styles, truncation)
        return torch.cat((pulled[:, :cutoff], styles[:, cutoff:]), 1)

    def repeat_style(self, style: Tensor) -> Tensor:
        """One style for all layers. Shape: (B, style_size) to (B, layers, style_size)."""
        return style[:, None].expand(-1, self.layers, -1)

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        """Images of one style each, in about [0, 1], not clipped. Shape: (B, style_size) to (B, C, H, W)."""
        return self.to_data_image(self.run_blocks(self.repeat_style(latents))[1])

    def to_data_image(self, image: Tensor) -> Tensor:
        """What `run_blocks` ends with as an image of the data: in about [0, 1], of `image_size` pixels."""
        return image / 2 + 0.5
