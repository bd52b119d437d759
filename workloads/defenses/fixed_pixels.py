"""Fixed pixels: hide the same random pixels of every image, a control of defenses that hide parts at random."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from workloads.core.config import Fraction
from workloads.core.randomness import generator
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier


class FixedPixelsConfig(DefenseConfig):
    """How many pixels are hidden, which, and when."""

    kind: Literal["fixed_pixels"] = "fixed_pixels"
    share: Annotated[Fraction, Field(gt=0, lt=1)] = 0.5
    """Fraction of the pixels that are hidden."""
    hide_in_use: bool = True
    """Hide them whenever the network is used, so that it never depends on them. Otherwise in training alone, as random
    erasing does."""
    seed: int = 0
    """Chooses other pixels. They do not depend on the seed of a training."""

    def change_model(self, model: Classifier) -> None:
        """Put a mask before the network."""
        if self.hide_in_use:
            model.mask = PixelMask(hidden_pixels(self, (model.image_size, model.image_size)))


class PixelMask(nn.Module):
    """Sets some pixels of normalised images to 0. Shape: (B, C, H, W), kept."""

    hidden: Tensor
    """Shape: (H, W) bool."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.register_buffer("hidden", hidden, persistent=False)  # the settings say which

    def forward(self, normalized: Tensor) -> Tensor:
        """The images without these pixels."""
        return normalized.masked_fill(self.hidden, 0.0)


@DEFENSES.register(FixedPixelsConfig)
class FixedPixels(Defense):
    """A control of random erasing: less is seen of every image, and always the same, so nothing is ever seen instead.

    Hidden pixels are 0 after normalisation.

    Source: Torp, Smith and Breuer, "Reducing information dependency does not cause training data privacy. Adversarially
    non-robust features do", ICLR 2026, who choose the pixels by a group lasso; here they are random.
    """

    config: FixedPixelsConfig

    def augment(self, images: Tensor, *, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Hide the pixels, where the network does not do that itself."""
        if self.config.hide_in_use:
            return images
        return images.masked_fill_(self._hidden().to(images.device), 0.0)

    def evidence(self) -> Evidence:
        """The share of hidden pixels, and which they are."""
        hidden = self._hidden().float()
        return Evidence({"hidden_share": hidden.mean().item()}, {"erased_map": hidden})

    def _hidden(self) -> Tensor:
        return hidden_pixels(self.config, (self.facts.image_shape[1], self.facts.image_shape[2]))


def hidden_pixels(config: FixedPixelsConfig, size: tuple[int, int]) -> Tensor:
    """Which pixels of an image of this height and width are hidden. Shape: size (H, W) to (H, W) bool, on the CPU."""
    draws = generator("fixed_pixels", config.seed, *size)
    order = torch.randperm(size[0] * size[1], generator=draws, device="cpu")
    return (order < round(config.share * len(order))).view(size)
