"""Random erasing: hide one or more random boxes of every training image."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from workloads.core.config import Fraction
from workloads.core.errors import ConfigError
from workloads.core.numerics import full_precision
from workloads.core.resampling import average_pool, resize
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence, TrainingFacts
from workloads.defenses.boxes import Boxes, Coverage, paint_over, regions

ATTEMPTS = 10  # as in torchvision and timm, before an image is left as it is
OFFICIAL_COLOUR = (0.485, 0.456, 0.406)
BLUR_CELLS = 4
GRID = 256
"""Areas and aspects, each, at which it is seen whether a box fits."""
REMARKABLE_SHARE = 0.01
"""Share of images that stay whole from which on a remark says so."""

Paint = Callable[[Tensor, int, int], Tensor]
"""From a region (C, h, w) and the numbers of its image and box to the colours to paint; they must broadcast to it."""


class RandomErasingConfig(DefenseConfig):
    """How much of each training image to hide, where, and under what."""

    kind: Literal["random_erasing"] = "random_erasing"
    probability: Fraction = 1.0
    """Probability that an image is erased at all."""
    min_area: Fraction = 0.1
    """Smallest erased fraction of the image, all boxes together, before rounding to pixels."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Largest erased fraction of the image; the fraction is drawn uniformly between the two."""
    max_aspect: PositiveFloat = 1.0
    """Largest ratio of a box's height to its width; the ratio is drawn uniformly in its logarithm."""
    min_aspect: PositiveFloat | None = None
    """Smallest ratio of a box's height to its width; None stands for 1 / max_aspect."""
    boxes: PositiveInt = 1
    """Boxes per image. Each draws its own area, divided by their number, as in timm; they may overlap."""
    fill: Literal["mean", "official", "box_colour", "pixel_noise", "blur"] | float = "mean"
    """`mean`: the mean colour of the training images. `official`: the numbers of the published code, which look light
    grey because they are painted after normalisation. `box_colour`: one colour per box from N(0, 1). `pixel_noise`: one
    number per pixel and channel from N(0, 1). `blur`: each box is reduced to 4 x 4 colours. A number: that value in
    all channels, after normalisation."""
    location: Literal["inside", "uniform", "fixed_centre", "fixed_corner", "per_image"] = "inside"
    """`inside`: anywhere within the image, which hides its centre most often. `uniform`: every pixel equally often; a
    box that passes an edge continues at the opposite one. `fixed_centre`. `fixed_corner`: top left. `per_image`: as
    `inside`, but drawn once for each training image, as is whether it is erased; flips and shifts still move the image
    under its box."""

    @property
    def revision(self) -> int:
        """Raised for `blur`, whose colours have other last bits since they come from matrix products."""
        return self.version + (self.fill == "blur")

    def remarks(self, size: tuple[int, int]) -> Iterator[str]:
        """Say how many images stay whole because no box of these areas and aspects fits into them."""
        share = share_without_box(self, size)
        if share >= REMARKABLE_SHARE:
            low, high = self.aspects
            yield (
                f"areas {self.min_area:g} to {self.max_area:g} with aspects {low:.2g} to {high:.2g} leave {share:.0%} "
                f"of the images whole: in {ATTEMPTS} attempts no box fits into {size[0]} x {size[1]} pixels"
            )

    @property
    def aspects(self) -> tuple[float, float]:
        """Smallest and largest ratio of a box's height to its width."""
        return self.min_aspect or 1 / self.max_aspect, self.max_aspect

    @model_validator(mode="after")
    def _check_ranges(self) -> RandomErasingConfig:
        if self.min_area > self.max_area:
            raise ConfigError(
                f"min_area {self.min_area} is above max_area {self.max_area}: lower min_area or raise max_area"
            )
        if self.min_aspect is None and self.max_aspect < 1:
            raise ConfigError(f"max_aspect {self.max_aspect} is below 1: raise it to 1 or more, or give min_aspect too")
        if self.min_aspect is not None and self.min_aspect > self.max_aspect:
            raise ConfigError(
                f"min_aspect {self.min_aspect} is above max_aspect {self.max_aspect}: "
                "lower min_aspect or raise max_aspect"
            )
        return self


@DEFENSES.register(RandomErasingConfig)
class RandomErasing(Defense):
    """Hide random boxes of every training image, so that the target model never sees a whole one.

    Acts on normalised training batches, in place; evaluation and attacks see whole images. Boxes are distributed as in
    torchvision, which matters in two ways when settings are compared. The box lies inside the image, so the centre is
    hidden far more often than a corner: in 77 % of the images at areas 0.1 to 0.4, in 90 % at 0.1 to 0.8. And a box
    that does not fit is drawn again up to ten times and then given up, so wide ranges of aspects at large areas hide
    less than the settings say: at area 0.8 and aspects 0.3 to 3.3, 13 % of the images are not erased. The evidence of
    a training says what was really hidden.

    Source: Tran et al., "Random Erasing vs. Model Inversion: A Promising Defense or a False Hope?", TMLR 2025; the
    algorithm is from Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.
    """

    config: RandomErasingConfig

    def __init__(self, config: RandomErasingConfig, *, facts: TrainingFacts) -> None:
        super().__init__(config, facts=facts)
        channels, *size = facts.image_shape
        if config.fill == "official" and channels != len(OFFICIAL_COLOUR):
            raise ConfigError(f"fill 'official' has 3 channels but the images have {channels}: set fill to mean.")
        self._size = (size[0], size[1])
        self._coverage = Coverage(self._size)
        self._boxes_of_images: Boxes | None = None
        if config.location == "per_image":
            draws = facts.generator("random_erasing/per_image")
            self._boxes_of_images = draw_boxes(facts.images, self._size, config, generator=draws).to(facts.device)

    def begin_epoch(self, epoch: int) -> None:
        """Count what the epoch before covered."""
        self._coverage.count()

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Draw boxes, count what they cover, and paint over them."""
        if self._boxes_of_images is None:
            boxes = draw_boxes(len(images), self._size, self.config, generator=generator, device=images.device)
        else:
            boxes = self._boxes_of_images.select(indices)
        self._coverage.add(boxes)
        return erase_all(images, boxes, self.config, mean=self.facts.channel_mean, generator=generator)

    def state(self) -> dict[str, Tensor]:
        """What was covered so far."""
        return self._coverage.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on counting what is covered."""
        self._coverage.restore(state)

    def evidence(self) -> Evidence:
        """How much of the images was covered, and where."""
        return self._coverage.evidence()


class BoxNumbers(Protocol):
    """Uniform numbers in [0, 1) that boxes are drawn from."""

    def erased(self) -> Tensor:
        """One number per image. Shape: (images, 1) float32."""

    def sides(self, attempt: int) -> Tensor:
        """Area and aspect of each box, at an attempt counted from 0. Shape: (2, images, boxes) float64."""

    def enough(self, fits: Tensor) -> bool:
        """Whether no further attempt is needed for boxes of which these fit. Shape: (images, boxes) bool."""

    def corners(self) -> Tensor:
        """Top and left of each box. Shape: (2, images, boxes) float64."""


@dataclass(frozen=True)
class GeneratorNumbers(BoxNumbers):
    """The next numbers of a generator, for a batch of images together."""

    generator: torch.Generator
    images: int
    boxes: int
    """Boxes per image."""
    device: torch.device | None = None
    """Where the generator draws; None for the CPU."""

    def erased(self) -> Tensor:
        """The next single-precision numbers of the generator."""
        return torch.rand(self.images, 1, generator=self.generator, device=self.device)

    def sides(self, attempt: int) -> Tensor:
        """The next numbers, for all images even if one alone is retried; the attempt's number has no part in it."""
        return self.corners()

    def enough(self, fits: Tensor) -> bool:
        """On a CPU once all boxes fit, as torchvision does; on a GPU never, as that would have to be waited for."""
        return fits.device.type == "cpu" and bool(fits.all())

    def corners(self) -> Tensor:
        """The next double-precision numbers of the generator."""
        shape = (2, self.images, self.boxes)
        return torch.rand(shape, dtype=torch.float64, generator=self.generator, device=self.device)


def draw_boxes(
    images: int,
    size: tuple[int, int],
    config: RandomErasingConfig,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> Boxes:
    """Boxes for a number of images of one size (H, W), drawn from a generator where it draws; None for the CPU."""
    return boxes_from(GeneratorNumbers(generator, images, config.boxes, device), size, config)


def boxes_from(numbers: BoxNumbers, size: tuple[int, int], config: RandomErasingConfig) -> Boxes:
    """Boxes for images of one size (H, W), with the distribution that `config` describes.

    Only `location: uniform` gives boxes that pass an edge: their top left corner is uniform over all pixels, whatever
    their size, so the probability that a pixel is hidden is exactly the expected area. `per_image` draws as `inside`.
    """
    is_erased = numbers.erased() < config.probability
    limits = torch.stack([torch.full((1, 1), side, device=is_erased.device) for side in size])
    sides = _draw_sides(numbers, size, limits, config) * is_erased
    return Boxes(*_place(numbers, sides, limits, config.location), *sides)


def _draw_sides(numbers: BoxNumbers, size: tuple[int, int], limits: Tensor, config: RandomErasingConfig) -> Tensor:
    """Heights and widths, both 0 if no attempt fits into the image. Shape: limits (2, 1, 1) to (2, images, boxes).

    A GPU makes all attempts, as the host would have to wait to see whether one is the last.
    """
    sides = _sides_of(numbers.sides(0), size, config)
    for attempt in range(1, ATTEMPTS):
        fits = (sides < limits).all(0)
        if numbers.enough(fits):
            return sides
        sides = torch.where(fits, sides, _sides_of(numbers.sides(attempt), size, config))
    return sides * (sides < limits).all(0)


def _sides_of(numbers: Tensor, size: tuple[int, int], config: RandomErasingConfig) -> Tensor:
    """Heights and widths that may not fit; the formula of torchvision, in its precision. Shape: (2, ...), int64."""
    area, aspect = numbers
    low, high = (math.log(bound) for bound in config.aspects)
    pixels = (area * (config.max_area - config.min_area) + config.min_area) * (size[0] * size[1] / config.boxes)
    half = (aspect * (high - low) + low).mul(0.5).exp()
    side = pixels.sqrt()
    return torch.stack((side * half, side / half)).round().long()


@functools.lru_cache(maxsize=1024)
def share_without_box(config: RandomErasingConfig, size: tuple[int, int]) -> float:
    """Probability that an image of this size that is to be erased stays whole, because no attempt at any box fits."""
    steps = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    sides = _sides_of(torch.stack(torch.meshgrid(steps, steps, indexing="ij")), size, config)
    fits = (sides < torch.tensor(size)[:, None, None]).all(0).double().mean().item()
    return float((1 - fits) ** (ATTEMPTS * config.boxes))


def _place(numbers: BoxNumbers, sides: Tensor, limits: Tensor, location: str) -> Tensor:
    """Top and left of boxes of these heights and widths. Shape: (2, images, boxes), kept."""
    if location == "fixed_corner":
        return torch.zeros_like(sides)
    if location == "fixed_centre":
        return (limits - sides) // 2
    places = limits if location == "uniform" else limits - sides + 1
    return (numbers.corners() * places).long()


def colour_of(config: RandomErasingConfig, mean: Tensor, channels: int) -> Tensor:
    """The one colour of all boxes, for a fill that is one. Shape: mean (C,) to (C,)."""
    match config.fill:
        case "mean":
            return mean
        case "official":
            return torch.stack([torch.full((), value, device=mean.device) for value in OFFICIAL_COLOUR])
        case float(constant):
            return torch.full((channels,), constant, device=mean.device)
    raise AssertionError(f"{config.fill} paints no single colour")


def painter(config: RandomErasingConfig, images: Tensor, *, mean: Tensor, generator: torch.Generator) -> Paint:
    """The function that paints boxes of this batch as `config.fill` says. Shape: images (B, C, H, W), mean (C,)."""
    batch, channels = images.shape[:2]
    match config.fill:
        case "box_colour":
            colours = torch.randn(batch, config.boxes, channels, 1, 1, generator=generator).to(images)
            return lambda region, image, box: colours[image, box]
        case "pixel_noise":
            return lambda region, image, box: torch.randn(region.shape, generator=generator)
        case "blur":
            return lambda region, image, box: blur(region)
    flat = colour_of(config, mean, channels).to(images)[:, None, None]
    return lambda region, image, box: flat


def erase_all(
    images: Tensor, boxes: Boxes, config: RandomErasingConfig, *, mean: Tensor, generator: torch.Generator
) -> Tensor:
    """Erase each image's boxes: in place and box by box on a CPU, all at once on a GPU, whose host then does not wait.

    Shape: images (B, C, H, W), kept; mean (C,), the colour of `fill: mean`.
    """
    if images.device.type == "cpu":
        return erase(images, boxes, painter(config, images, mean=mean, generator=generator))
    if config.fill == "blur":
        return blurred_at_once(images, boxes)
    if config.fill in ("box_colour", "pixel_noise"):
        return _erased_in_noise(images, boxes, config, generator)
    return paint_over(images, boxes, colour_of(config, mean, images.shape[1]).to(images)[:, None, None])


def _erased_in_noise(images: Tensor, boxes: Boxes, config: RandomErasingConfig, generator: torch.Generator) -> Tensor:
    batch, channels, height, width = images.shape
    masks = boxes.masks((height, width))[:, :, None]
    shape = images.shape if config.fill == "pixel_noise" else (batch, channels, 1, 1)
    for box in range(config.boxes):
        noise = torch.randn(shape, generator=generator, device=images.device)
        images = torch.where(masks[:, box], noise.to(images.dtype), images)
    return images


def blurred(images: Tensor, boxes: Boxes) -> Tensor:
    """Copies of images whose boxes are blurred. Shape: (B, C, H, W), kept."""
    if images.device.type != "cpu":
        return blurred_at_once(images, boxes)
    return erase(images.clone(), boxes, lambda region, image, box: blur(region))


def blurred_at_once(images: Tensor, boxes: Boxes) -> Tensor:
    """Images whose boxes are blurred one after the other, as `blur` does, but all images together.

    Shape: (B, C, H, W), kept.
    """
    size = (images.shape[2], images.shape[3])
    for pieces in boxes.pieces(size).flatten(1, 2).unbind(1):
        top, bottom, left, right = pieces.unbind(1)
        to_rows, from_rows, in_rows = _cells_of_lines(top, bottom, size[0])
        to_columns, from_columns, in_columns = _cells_of_lines(left, right, size[1])
        with full_precision(images.device):
            cells = to_rows[:, None] @ images @ to_columns[:, None].mT
            smooth = from_rows[:, None] @ cells @ from_columns[:, None].mT
        images = torch.where((in_rows[:, :, None] & in_columns[:, None])[:, None], smooth, images)
    return images


def _cells_of_lines(start: Tensor, end: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices from a line to the means of cells of its part from `start` to `end`, and from cells back; and that part.

    Shape: start and end (B,) to (B, cells, side), (B, side, cells) and (B, side) bool.
    """
    places, cells = (torch.arange(count, device=start.device) for count in (side, BLUR_CELLS))
    start, length = start[:, None], (end - start)[:, None].clamp(min=1)
    first, last = start + cells * length // BLUR_CELLS, start - (-(cells + 1) * length // BLUR_CELLS)
    inside = (places >= first[:, :, None]) & (places < last[:, :, None])
    centres = ((places - start + 0.5) * BLUR_CELLS / length - 0.5).clamp(0, BLUR_CELLS - 1)
    back = (1 - (centres[:, :, None] - cells).abs()).clamp(min=0)
    return inside / (last - first)[:, :, None], back, (places >= start) & (places < end[:, None])


def blur(region: Tensor) -> Tensor:
    """The mean colours of 4 x 4 cells, drawn back smoothly. Shape: (C, h, w), kept."""
    cells = average_pool(region[None], (BLUR_CELLS, BLUR_CELLS))
    return resize(cells, (region.shape[1], region.shape[2]))[0]


def erase(images: Tensor, boxes: Boxes, paint: Paint) -> Tensor:
    """Paint over the boxes of each image, in place; other pixels are not even read. Shape: images (B, C, H, W)."""
    for region, image, box in regions(images, boxes):
        region.copy_(paint(region, image, box))
    return images
