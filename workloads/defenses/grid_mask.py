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
    kind: Literal["grid_mask"] = "grid_mask"
    min_period: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Distance from square to square, of the image's side; each image draws its own."""
    max_period: Annotated[float, Field(gt=0, le=1)] = 0.6
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Side of a square, of the period; so 0.5 hides a quarter of the image."""
    probability: Fraction = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> GridMaskConfig:
        if self.min_period > self.max_period:
            raise ConfigError(f"min_period {self.min_period} is above max_period {self.max_period}: swap the two")
        return self


@DEFENSES.register(GridMaskConfig)
class GridMask(Defense):
    """A control of random erasing: many small squares at regular distances, so no region is hidden as a whole.

    The fill is 0 after normalisation; the lattice is not turned.

    Source: Chen et al., "GridMask Data Augmentation", 2020.
    """

    config: GridMaskConfig

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        hidden = lattice(len(images), (height, width), self.config, generator=generator)
        return images.masked_fill_(hidden[:, None].to(images.device), 0.0)


def lattice(images: int, size: tuple[int, int], config: GridMaskConfig, *, generator: torch.Generator) -> Tensor:
    """True where a pixel is hidden. Shape: size (H, W) to (images, H, W)."""
    drawn, down, across = torch.rand(3, images, generator=generator)
    period = (config.min_period + drawn * (config.max_period - config.min_period)) * min(size)
    hit = torch.rand(images, generator=generator) < config.probability
    rows, columns = (
        _stripes(length, period, offset * period, config.hidden)
        for length, offset in zip(size, (down, across), strict=True)
    )
    return rows[:, :, None] & columns[:, None, :] & hit[:, None, None]


def _stripes(length: int, period: Tensor, offset: Tensor, hidden: float) -> Tensor:
    """Shape: (B,), (B,) to (B, length)."""
    places = torch.arange(length) + 0.5
    return (places[None] + offset[:, None]).remainder(period[:, None]) < hidden * period[:, None]
