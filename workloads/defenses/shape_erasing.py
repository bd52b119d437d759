"""Erasing by other shapes: a disk, or pixels here and there, as controls of the square of random erasing."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workloads.core.checkpoints import State
from workloads.core.config import Fraction
from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence, TrainingFacts

LARGEST_DISK = math.pi / 4
"""Area of the largest disk inside a square image, as a fraction of the image."""


class ShapeErasingConfig(DefenseConfig):
    """What is hidden of each training image, and how much."""

    kind: Literal["shape_erasing"] = "shape_erasing"
    shape: Literal["circle", "pixels"] = "circle"
    """`circle`: a disk anywhere inside the image, as the square of `random_erasing`. `pixels`: as many single pixels
    anywhere, so that no region is hidden as a whole."""
    probability: Fraction = 1.0
    """Probability that an image is erased at all."""
    min_area: Fraction = 0.1
    """Smallest erased fraction of the image, before rounding to pixels."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Largest erased fraction of the image; the fraction is drawn uniformly between the two."""

    @model_validator(mode="after")
    def _check_areas(self) -> ShapeErasingConfig:
        if self.min_area > self.max_area:
            raise ConfigError(
                f"min_area {self.min_area} is above max_area {self.max_area}: lower min_area or raise max_area"
            )
        if self.shape == "circle" and self.max_area > LARGEST_DISK:
            raise ConfigError(
                f"max_area {self.max_area} is above {LARGEST_DISK:.3f}, the largest disk in a square: lower max_area"
            )
        return self


@DEFENSES.register(ShapeErasingConfig)
class ShapeErasing(Defense):
    """Hide a disk or single pixels of every training image, at the areas of random erasing.

    The fill is the mean colour of the training images. Evaluation and attacks see whole images.

    Source: the reviews of Tran et al., "Random Erasing vs. Model Inversion", TMLR 2025, which ask for both shapes.
    """

    config: ShapeErasingConfig

    def __init__(self, config: ShapeErasingConfig, *, facts: TrainingFacts) -> None:
        super().__init__(config, facts=facts)
        self._mean = facts.channel_mean.to(facts.device)[:, None, None]
        height, width = facts.image_shape[1:]
        self._erased = torch.zeros(height, width, dtype=torch.float64, device=facts.device)
        self._images = 0

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Draw what is hidden of each image, count it, and paint over it."""
        size = (images.shape[2], images.shape[3])
        hidden = hidden_shapes(len(images), size, self.config, generator=generator, device=images.device)
        self._erased += hidden.sum(0)
        self._images += len(images)
        return torch.where(hidden[:, None], self._mean.to(images), images)

    def state(self) -> State:
        """What was hidden so far."""
        return {"erased": self._erased.clone(), "images": self._images}

    def restore(self, state: State) -> None:
        """Go on counting what is hidden."""
        self._erased, self._images = state["erased"].to(self.facts.device), state["images"]

    def evidence(self) -> Evidence:
        """The mean hidden area, and how often each pixel was hidden."""
        erased_map = (self._erased / max(self._images, 1)).cpu()
        facts = {"images_seen": self._images, "mean_erased_area": erased_map.mean().item()}
        return Evidence(facts, {"erased_map": erased_map.float()})


def hidden_shapes(
    images: int,
    size: tuple[int, int],
    config: ShapeErasingConfig,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> Tensor:
    """Masks that are True where a pixel is hidden, each drawn anew. Shape: size (H, W) to (images, H, W) bool."""
    position, *centre = torch.rand(3, images, 1, generator=generator, device=device)
    areas = config.min_area + position * (config.max_area - config.min_area)
    is_erased = torch.rand(images, 1, generator=generator, device=device) < config.probability
    areas = areas * is_erased
    if config.shape == "circle":
        return _disks(areas * (size[0] * size[1]), centre[0], centre[1], size)
    noise = torch.rand(images, size[0] * size[1], generator=generator, device=device)
    ranks = noise.argsort(1).argsort(1)  # a random order of the pixels of each image
    return (ranks < (areas * noise.shape[1]).round()).view(images, *size)


def _disks(pixels: Tensor, down: Tensor, across: Tensor, size: tuple[int, int]) -> Tensor:
    """Disks of as many pixels, at a fraction of the way between the places where they touch the edges.

    A pixel is part of a disk if its centre is. Shape: pixels, down and across (B, 1) to (B, H, W) bool.
    """
    radius = (pixels / math.pi).sqrt()
    squares = [
        (torch.arange(side, device=pixels.device) + 0.5 - (radius + share * (side - 2 * radius))).square()
        for side, share in zip(size, (down, across), strict=True)
    ]
    return squares[0][:, :, None] + squares[1][:, None, :] < radius.square()[:, :, None]
