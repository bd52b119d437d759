"""Random, differentiable views of images on their way to the target model, drawn apart for each image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from workloads.core.config import Fraction, FrozenConfig
from workloads.core.randomness import Draws
from workloads.core.resampling import resample


class View(Protocol):
    """A random, differentiable change of images on their way to the target model."""

    @property
    def capturable(self) -> bool:
        """Whether it is computed on the device alone, so that a step can be recorded; True by default."""
        return True

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """The images as the target model sees them, changed by the numbers of their rows.

        Shape: (B, C, H, W) in [0, 1] with draws for B rows, kept; gradients pass.
        """


class ViewConfig(FrozenConfig):
    """One view: a crop, a flip and a turn, then brightness and contrast; each is left out at its neutral value.

    Parameters are drawn per image. Authors who use torchvision draw one set for a whole batch, which has the same
    expectation; authors who use kornia change colours between crop and flip, in a random order per image. Contrast
    mixes an image with the mean over all its channels, and each change is clamped to [0, 1]: the views of attacks are
    those of their papers, and differ from the training augmentation in `workloads.recipes.augmentation`.
    """

    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (1.0, 1.0)
    """Smallest and largest area of the crop, as a fraction of the image."""
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    """Smallest and largest ratio of the crop's width to its height, drawn uniformly in its logarithm."""
    brightness: Fraction = 0.0
    """Brightness is multiplied by a factor drawn from 1 +- this."""
    contrast: Fraction = 0.0
    """Contrast is multiplied by a factor drawn from 1 +- this."""
    jitter_probability: Fraction = 1.0
    """Probability that brightness and contrast change at all."""
    flip: Fraction = 0.0
    """Probability of a horizontal flip."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn to either side, in degrees."""
    rotation_probability: Fraction = 0.5
    """Probability of a turn."""
    draws: Literal["per_image", "per_batch"] = "per_image"
    """`per_batch` gives all images of a step the same draws, as authors do who use torchvision."""


@dataclass(frozen=True)
class RandomView(View):
    """The view that a `ViewConfig` describes."""

    config: ViewConfig

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return self.change(images, (draws.shared() if self.config.draws == "per_batch" else draws).uniform)

    def change(self, images: Tensor, uniform: Callable[[int], Tensor]) -> Tensor:
        """The view by given numbers: `uniform` makes so many for each image, in [0, 1). Shape: (B, C, H, W), kept."""
        if self.config == ViewConfig():
            return images
        numbers = uniform(10)
        if self.config.draws == "per_batch":
            numbers = numbers[:1].expand_as(numbers)
        images = self._cropped_and_turned(images, numbers)
        return self._recoloured(images, numbers[:, 4:7]) if self.config.brightness or self.config.contrast else images

    def _recoloured(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Brightness, then contrast about the mean grey, each cut to [0, 1]; other images stay as they are."""
        happens = (numbers[:, 2] < self.config.jitter_probability)[:, None, None, None]
        spreads = (self.config.brightness, self.config.contrast)
        factors = [1 + (2 * numbers[:, column] - 1) * spread for column, spread in enumerate(spreads)]
        brightness, contrast = (factor.to(images)[:, None, None, None] for factor in factors)
        bright = (images * brightness).clamp(0, 1)
        grey = bright.mean((1, 2, 3), keepdim=True)
        return torch.where(happens, (grey + (bright - grey) * contrast).clamp(0, 1), images)

    def _cropped_and_turned(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Crop, flip and turn in one bilinear look-up; what lies outside repeats the edge."""
        area = _between(numbers[:, 0], self.config.scale)
        ratio = _between(numbers[:, 1], (math.log(self.config.ratio[0]), math.log(self.config.ratio[1]))).exp()
        sides = torch.stack(((area * ratio).sqrt(), (area / ratio).sqrt()), 1).clamp(max=1)
        centre = (2 * numbers[:, 2:4] - 1) * (1 - sides)
        turns = (numbers[:, 8] < self.config.rotation_probability) * (2 * numbers[:, 9] - 1)
        angle = turns * math.radians(self.config.rotation)
        mirror = 1 - 2 * (numbers[:, 7] < self.config.flip).to(numbers)
        across = torch.stack((mirror * angle.cos(), -mirror * angle.sin()), 1) * sides[:, :1]
        down = torch.stack((angle.sin(), angle.cos()), 1) * sides[:, 1:]
        maps = torch.cat((torch.stack((across, down), 1), centre[:, :, None]), 2)
        return resample(images, maps, turns=self.config.rotation > 0)


@dataclass(frozen=True)
class ComposedView(View):
    """One view after another, each with its own random numbers."""

    first: View
    second: View

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return self.second(self.first(images, draws.named("first")), draws.named("second"))


def _between(number: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * number
