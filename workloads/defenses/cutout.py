"""Cutout: hide a square whose centre is any pixel, cut off at the edges of the image."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence, TrainingFacts
from workloads.defenses.boxes import Boxes, Coverage, paint_over


class CutoutConfig(DefenseConfig):
    """How large the hidden square is, and how often there is one."""

    kind: Literal["cutout"] = "cutout"
    side: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Side of the square as a fraction of the image's side, before it is cut off at an edge."""
    probability: Fraction = 1.0
    """Probability that an image has a hidden square at all."""


@DEFENSES.register(CutoutConfig)
class Cutout(Defense):
    """A control of random erasing: one fixed size, and corners are hidden as well as the centre.

    The fill is 0 after normalisation, as published.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """

    config: CutoutConfig

    def __init__(self, config: CutoutConfig, *, facts: TrainingFacts) -> None:
        super().__init__(config, facts=facts)
        self._size = (facts.image_shape[1], facts.image_shape[2])
        self._coverage = Coverage(self._size)

    def begin_epoch(self, epoch: int) -> None:
        """Count what the epoch before covered."""
        self._coverage.count()

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Set one square per image to 0, the mean after normalisation."""
        boxes = squares(len(images), self._size, self.config, generator=generator, device=images.device)
        self._coverage.add(boxes)
        return paint_over(images, boxes, images.new_zeros(()))

    def state(self) -> State:
        """What was covered so far."""
        return self._coverage.state()

    def restore(self, state: State) -> None:
        """Go on counting what is covered."""
        self._coverage.restore(state)

    def evidence(self) -> Evidence:
        """How much of the images was covered, and where."""
        return self._coverage.evidence()


def squares(
    images: int,
    size: tuple[int, int],
    config: CutoutConfig,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> Boxes:
    """One square per image around a uniformly drawn pixel, cut off at the edges; empty for images left as they are."""
    centres = torch.rand(2, images, 1, generator=generator, device=device, dtype=torch.float64)
    is_spared = torch.rand(images, 1, generator=generator, device=device) >= config.probability
    corners, sides = [], []
    for centre, length in zip(centres, size, strict=True):
        side = round(length * config.side)
        first = (centre * length).long() - side // 2
        start, end = first.clamp(min=0), (first + side).clamp(max=length)
        corners.append(start)
        sides.append((end - start).masked_fill(is_spared, 0))
    return Boxes(*corners, *sides)
