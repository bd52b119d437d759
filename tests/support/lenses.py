"""A lens that watches what an attack shows the target model."""

from __future__ import annotations

from torch import Tensor

from workloads.core.randomness import Draws
from workloads.observation.views import View


class CountingLens(View):
    """Changes nothing and counts the images that pass."""

    passed = 0

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        self.passed += len(images)
        return images
