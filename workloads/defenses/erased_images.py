"""Random erasing from the attacker's side: out of place, with gradients, so that it can stand inside an objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from workloads.defenses.boxes import Boxes
from workloads.defenses.random_erasing import RandomErasingConfig, draw_boxes, erase, painter
from workloads.observation.oracles import OpenClassifier


def erased(
    normalized: Tensor, config: RandomErasingConfig, boxes: Boxes, *, mean: Tensor, draws: torch.Generator
) -> Tensor:
    """Images with boxes painted over; gradients pass where nothing is hidden.

    Shape: normalized (B, C, H, W), kept as it is; mean (C,), what `fill: mean` paints; to (B, C, H, W).
    """
    with torch.no_grad():
        paint = painter(config, normalized, mean=mean, generator=draws)
        hidden = erase(normalized.detach().clone(), boxes, paint)
        where = erase(torch.zeros_like(normalized[:, :1]), boxes, lambda region, image, box: torch.ones_like(region))
    return torch.where(where > 0, hidden, normalized)


class Erased:
    """A classifier that only ever sees erased images, each time by fresh draws."""

    def __init__(
        self, model: OpenClassifier, config: RandomErasingConfig, *, mean: Tensor, draws: Callable[[], torch.Generator]
    ) -> None:
        """`mean` is the colour of `fill: mean`, (C,), after the model's normalisation; `draws` begins each batch."""
        self._model, self._config, self._mean, self._draws = model, config, mean, draws

    @property
    def head(self) -> nn.Module:
        return self._model.head

    @property
    def mean(self) -> Tensor:
        return self._model.mean

    @property
    def std(self) -> Tensor:
        return self._model.std

    def normalize(self, images: Tensor) -> Tensor:
        normalized, draws = self._model.normalize(images), self._draws()
        height, width = normalized.shape[2:]
        boxes = draw_boxes(len(images), (height, width), self._config, generator=draws)
        return erased(normalized, self._config, boxes, mean=self._mean, draws=draws)

    def features(self, normalized: Tensor) -> Tensor:
        return self._model.features(normalized)

    def __call__(self, images: Tensor) -> Tensor:
        return self.head(self.features(self.normalize(images)))
