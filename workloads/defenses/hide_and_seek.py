"""Hide-and-Seek: hide each cell of a grid independently at random."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from workloads.defenses.base import DEFENSES, Defense, DefenseConfig


class HideAndSeekConfig(DefenseConfig):
    """The grid, and how much of it to hide."""

    kind: Literal["hide_and_seek"] = "hide_and_seek"
    cells: PositiveInt = 4
    """Cells along each side of the image; sizes differ by one pixel if the side cannot be divided evenly."""
    hidden: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability that a cell is hidden."""


@DEFENSES.register(HideAndSeekConfig)
class HideAndSeek(Defense):
    """A control of random erasing: the same area hidden in scattered pieces, anywhere in the image.

    Hidden cells take the mean colour of the training images.

    Source: Singh and Lee, "Hide-and-Seek: Forcing a Network to be Meticulous", ICCV 2017.
    """

    config: HideAndSeekConfig

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Paint each cell of a grid in the mean colour, by chance."""
        shape, device = (len(images), self.config.cells, self.config.cells), images.device
        cells = torch.rand(shape, generator=generator, device=device) < self.config.hidden
        rows, columns = (
            torch.arange(length, device=device) * self.config.cells // length for length in images.shape[2:]
        )
        hidden = cells[:, rows[:, None], columns]
        colour = self.facts.channel_mean.to(images)[:, None, None]
        return torch.where(hidden[:, None], colour, images)
