"""Drawn images of stripes: a data set that needs no files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import PositiveInt

from workloads.datasets.base import DATASETS, Dataset, DatasetConfig, Sample

SIDE = 32  # pixels


class StripesConfig(DatasetConfig):
    """How many kinds of stripes there are, and how many images of each."""

    kind: Literal["stripes"] = "stripes"
    directions: PositiveInt = 6
    """Identities: directions that stripes run in, evenly spaced over half a turn."""
    images: PositiveInt = 40
    """Images of each direction; they differ in where the stripes begin and how wide they are."""


@DATASETS.register(StripesConfig)
class Stripes(Dataset):
    """Stripes of random width and place; an identity is their direction.

    Source: none; drawn from a formula.
    """

    config: StripesConfig

    def image_counts(self) -> Mapping[str, int]:
        """The same number of images for each direction, whose names are numbers of two digits."""
        return {f"{direction:02}": self.config.images for direction in range(self.config.directions)}

    def digest(self) -> str:
        """A digest of the settings, which the images follow from."""
        return hashlib.sha256(f"stripes 1 {self.config.directions} {self.config.images}".encode()).hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Draw the images of the named directions, in order."""
        across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
        for name in self.image_counts():
            draws = np.random.default_rng(int(name))
            angle = np.pi * int(name) / self.config.directions
            for width, start in draws.random((self.config.images, 2)):
                phase = (across * np.cos(angle) + down * np.sin(angle)) / (3 + 3 * width) + 2 * np.pi * start
                if name in names:
                    yield Sample(name, Image.fromarray(np.uint8(127.5 * (1 + np.sin(phase)))))
