"""GridMask: hide a lattice of squares."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workloads.core.config import Fraction
from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig


class GridMaskConfig(DefenseConfig):
    """How far apart the hidden squares lie, and how large they are."""

    kind: Literal["grid_mask"] = "grid_mask"
    min_period: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Smallest distance from square to square, as a fraction of the image's side; each image draws its own."""
    max_period: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Largest distance from square to square, as a fraction of the image's side."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Side of a square as a fraction of the period; 0.5 hides a quarter of the image."""
    probability: Fraction = 1.0
    """Probability that an image is masked at all."""

    @model_validator(mode="after")
    def _ordered(self) -> GridMaskConfig:
        if self.min_period > self.max_period:
            raise ConfigError(f"min_period {self.min_period} is above max_period {self.max_period}: swap the two")
        return self


@DEFENSES.register(GridMaskConfig)
class GridMask(Defense):
    """A control of random erasing: many small squares at regular distances, so no large region is hidden entirely.

    The fill is 0 after normalisation; the lattice is not rotated.

    Source: Chen et al., "GridMask Data Augmentation", 2020.
    """

    config: GridMaskConfig

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Set a lattice of squares to 0, the mean after normalisation."""
        height, width = images.shape[2:]
        hidden = lattice(len(images), (height, width), self.config, generator=generator, device=images.device)
        return images.masked_fill_(hidden[:, None], 0.0)


def lattice(
    images: int,
    size: tuple[int, int],
    config: GridMaskConfig,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> Tensor:
    """Masks that are True where a pixel is hidden, each drawn anew. Shape: size (H, W) to (images, H, W)."""
    position, down, across = torch.rand(3, images, generator=generator, device=device)
    period = (config.min_period + position * (config.max_period - config.min_period)) * min(size)
    is_masked = torch.rand(images, generator=generator, device=device) < config.probability
    rows, columns = (
        _stripes(length, period, offset * period, config.hidden)
        for length, offset in zip(size, (down, across), strict=True)
    )
    return rows[:, :, None] & columns[:, None, :] & is_masked[:, None, None]


def _stripes(length: int, period: Tensor, offset: Tensor, hidden: float) -> Tensor:
    """Which places along an axis are hidden. Shape: (B,), (B,) to (B, length)."""
    places = torch.arange(length, device=period.device) + 0.5
    return (places[None] + offset[:, None]).remainder(period[:, None]) < hidden * period[:, None]
