"""Random erasing from the attacker's side: out of place and with gradients, so that attacks can use it in a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workloads.core.randomness import Draws
from workloads.defenses.boxes import Boxes
from workloads.defenses.random_erasing import (
    ATTEMPTS,
    BoxNumbers,
    RandomErasingConfig,
    blurred,
    boxes_from,
    colour_of,
    draw_boxes,
    erase_all,
)
from workloads.observation.oracles import OpenClassifier


def erased(
    normalized: Tensor, config: RandomErasingConfig, boxes: Boxes, *, mean: Tensor, draws: torch.Generator
) -> Tensor:
    """Copies of images with boxes painted over; gradients pass through the pixels outside the boxes.

    Shape: normalized (B, C, H, W), left as it is; mean (C,), the colour of `fill: mean`; to (B, C, H, W).
    """
    with torch.no_grad():
        painted = erase_all(normalized.detach().clone(), boxes, config, mean=mean, generator=draws)
        mask = boxes.masks((normalized.shape[2], normalized.shape[3])).any(1)[:, None]
    return torch.where(mask, painted, normalized)


@dataclass(frozen=True)
class RowNumbers(BoxNumbers):
    """The numbers of each image's row, which no other image of the batch has a part in."""

    draws: Draws
    boxes: int

    def erased(self) -> Tensor:
        """Each image's number under the purpose `erased`, on the device of the draws."""
        return self.draws.named("erased").uniform(1)

    def sides(self, attempt: int) -> Tensor:
        """Numbers of the attempt: a retry for one image leaves the numbers of the others alone."""
        return self._all_sides[attempt]

    def enough(self, fits: Tensor) -> bool:
        """Never: attempts that are not needed change nothing, and a GPU would have to be waited for."""
        return False

    def corners(self) -> Tensor:
        """Drawn under a purpose of their own, so they do not depend on how often sides were tried."""
        return self._pairs("corners", 1)[0]

    @functools.cached_property
    def _all_sides(self) -> Tensor:
        """All attempts in one draw. Shape: (ATTEMPTS, 2, images, boxes)."""
        return self._pairs("sides", ATTEMPTS)

    def _pairs(self, purpose: str, count: int) -> Tensor:
        """Shape: (count, 2, images, boxes)."""
        numbers = self.draws.named(purpose).uniform(count * 2 * self.boxes, torch.float64)
        return numbers.unflatten(1, (count, 2, self.boxes)).permute(1, 2, 0, 3)


def erased_by_row(normalized: Tensor, config: RandomErasingConfig, *, mean: Tensor, draws: Draws) -> Tensor:
    """Images erased by the random numbers of their rows; gradients pass where nothing is hidden.

    Shape: normalized (B, C, H, W), kept as it is; mean (C,), what `fill: mean` paints; to (B, C, H, W).
    """
    height, width = normalized.shape[2:]
    boxes = boxes_from(RowNumbers(draws, config.boxes), (height, width), config)
    masks = boxes.masks((height, width))[:, :, None]
    if config.fill == "blur":
        with torch.no_grad():
            painted = blurred(normalized.detach(), boxes)
        return torch.where(masks.any(1), painted, normalized)
    images = normalized
    for box in range(config.boxes):
        images = torch.where(masks[:, box], _fill(config, normalized, mean, draws.named("fill", box)), images)
    return images


def _fill(config: RandomErasingConfig, images: Tensor, mean: Tensor, draws: Draws) -> Tensor:
    """What one box of each image is filled with. Shape: images (B, C, H, W); broadcasts to it."""
    batch, channels = images.shape[:2]
    match config.fill:
        case "box_colour":
            return draws.normal(channels).to(images).view(batch, channels, 1, 1)
        case "pixel_noise":
            return draws.normal(images[0].numel()).to(images).view_as(images)
    return colour_of(config, mean, channels).to(images)[:, None, None]


class ErasedClassifier(OpenClassifier):
    """A classifier that sees every image erased, with new boxes each time it is called."""

    def __init__(
        self, model: OpenClassifier, config: RandomErasingConfig, *, mean: Tensor, draws: Callable[[], torch.Generator]
    ) -> None:
        """Wrap `model`; `draws` returns the generator, on the device, for the boxes of the next batch.

        Shape: mean (C,), the colour of `fill: mean` after the model's normalisation.
        """
        self._model, self._config, self._mean, self._draws = model, config, mean, draws

    @property
    def head(self) -> nn.Module:
        """The last layer of the wrapped model."""
        return self._model.head

    @property
    def mean(self) -> Tensor:
        """Mean that the wrapped model normalises by. Shape: (C, 1, 1)."""
        return self._model.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation that the wrapped model normalises by. Shape: (C, 1, 1)."""
        return self._model.std

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 1], normalised and then erased. Shape: (B, C, H, W)."""
        normalized, draws = self._model.normalize(images), self._draws()
        height, width = normalized.shape[2:]
        boxes = draw_boxes(len(images), (height, width), self._config, generator=draws, device=normalized.device)
        return erased(normalized, self._config, boxes, mean=self._mean, draws=draws)

    def features(self, normalized: Tensor) -> Tensor:
        """Features of the wrapped model."""
        return self._model.features(normalized)

    def modules(self) -> Iterator[nn.Module]:
        """All layers of the wrapped model."""
        return self._model.modules()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images in [0, 1]. Shape: (B, C, H, W) to (B, classes)."""
        return self.head(self.features(self.normalize(images)))
