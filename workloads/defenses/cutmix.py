"""CutMix: paste a box from another image of the batch, and mix the targets in proportion."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from workloads.core.config import Fraction
from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig
from workloads.defenses.boxes import Boxes


class CutmixConfig(DefenseConfig):
    """How large the pasted box is, and how often there is one."""

    version: ClassVar = 2

    kind: Literal["cutmix"] = "cutmix"
    alpha: PositiveFloat = 1.0
    """The fraction of an image that is kept is drawn from Beta(alpha, alpha); with 1, all fractions are equally
    likely."""
    probability: Fraction = 1.0
    """Probability that an image gets a box of another at all."""


@DEFENSES.register(CutmixConfig)
class Cutmix(Defense):
    """A control of random erasing: a piece of another image replaces what is hidden.

    The box's centre is any pixel and the box is cut off at the edges; targets follow the area really pasted. Each image
    draws its own box and partner, while the authors draw one box per batch.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    ICCV 2019.
    """

    couples_images: ClassVar = True
    config: CutmixConfig

    def prepare(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Paste a box of another image, and mix the labels by its area."""
        height, width = batch.images.shape[2:]
        partners = torch.randperm(len(batch.images), generator=generator, device=batch.images.device)
        boxes = pasted_boxes(len(partners), (height, width), self.config, generator=generator, device=partners.device)
        images = torch.where(boxes.masks((height, width)), batch.images[partners], batch.images)
        pasted = (boxes.height * boxes.width).sum(1).to(batch.targets) / (height * width)
        targets = (1 - pasted)[:, None] * batch.targets + pasted[:, None] * batch.targets[partners]
        return replace(batch, images=images, targets=targets)


def pasted_boxes(
    images: int, size: tuple[int, int], config: CutmixConfig, *, generator: torch.Generator, device: torch.device
) -> Boxes:
    """One box per image, shaped like the image, around a uniformly drawn pixel and cut off at the edges."""
    area = 1 - _beta(config.alpha, images, generator, device)
    area = area * (torch.rand(images, 1, generator=generator, device=device) < config.probability)
    corners, sides = [], []
    for length in size:
        centre = (torch.rand(images, 1, generator=generator, device=device) * length).long()
        side = (length * area.sqrt()).long()
        start, end = (centre - side // 2).clamp(min=0), (centre - side // 2 + side).clamp(max=length)
        corners.append(start)
        sides.append(end - start)
    return Boxes(*corners, *sides)


def _beta(alpha: float, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws from Beta(alpha, alpha), from two of a gamma distribution. Shape: (count, 1) float64."""
    shape = torch.full((2, count, 1), alpha, dtype=torch.float64, device=device)
    # The public function, torch.distributions.Gamma, draws from the global generator only.
    first, second = torch._standard_gamma(shape, generator=generator)
    return first / (first + second)
