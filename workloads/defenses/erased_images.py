"""Random erasing from the attacker's side: out of place and with gradients, so that attacks can use it in a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from workloads.defenses.boxes import Boxes
from workloads.defenses.random_erasing import RandomErasingConfig, draw_boxes, erase, painter
from workloads.observation.oracles import OpenClassifier


def erased(
    normalized: Tensor, config: RandomErasingConfig, boxes: Boxes, *, mean: Tensor, draws: torch.Generator
) -> Tensor:
    """Copies of images with boxes painted over; gradients pass through the pixels outside the boxes.

    Shape: normalized (B, C, H, W), left as it is; mean (C,), the colour of `fill: mean`; to (B, C, H, W).
    """
    with torch.no_grad():
        paint = painter(config, normalized, mean=mean, generator=draws)
        painted = erase(normalized.detach().clone(), boxes, paint)
        mask = erase(torch.zeros_like(normalized[:, :1]), boxes, lambda region, image, box: torch.ones_like(region))
    return torch.where(mask > 0, painted, normalized)


class ErasedClassifier(OpenClassifier):
    """A classifier that sees every image erased, with new boxes each time it is called."""

    def __init__(
        self, model: OpenClassifier, config: RandomErasingConfig, *, mean: Tensor, draws: Callable[[], torch.Generator]
    ) -> None:
        """Wrap `model`; `draws` returns the CPU generator for the boxes of the next batch.

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
        boxes = draw_boxes(len(images), (height, width), self._config, generator=draws)
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
