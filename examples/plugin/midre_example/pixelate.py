"""Train on images whose fine detail is averaged away."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from workloads.defenses.base import DEFENSES, Defense, DefenseConfig


class PixelateConfig(DefenseConfig):
    """How coarse the images are."""

    kind: Literal["pixelate"] = "pixelate"
    block: PositiveInt = 4
    """Side, in pixels, of the squares that are set to their mean; those at the right and lower edges may be smaller."""


@DEFENSES.register(PixelateConfig)
class Pixelate(Defense):
    """Pixelated training images: every block of pixels is set to its mean.

    Source: Fan, "Image Pixelization with Differential Privacy", DBSec 2018, without its noise.
    """

    config: PixelateConfig

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Set each block of every image to its mean. Shape: images (B, C, H, W), kept."""
        block = self.config.block
        height, width = images.shape[2:]
        means = F.avg_pool2d(images, block, ceil_mode=True)
        return means.repeat_interleave(block, 2)[:, :, :height].repeat_interleave(block, 3)[..., :width]
