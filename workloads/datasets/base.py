"""What a data set is: images with identities, held as uint8, and how private images are split into train and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Tensor

from workloads.config import ComponentConfig, FrozenConfig
from workloads.errors import DataError
from workloads.randomness import generator
from workloads.registry import Registry

Name = Annotated[str, Field(min_length=1)]


class DatasetConfig(ComponentConfig):
    """Which images to take of a data set, and the shape they get."""

    image_size: PositiveInt = 32
    """Side of the square images in pixels; the shorter side is scaled to it and the longer one is cropped."""
    channels: Literal[1, 3] = 3
    identities: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Names of the identities to take, in the order of their class index; all, sorted, where omitted."""
    max_per_identity: PositiveInt | None = None
    """The first so many images of each identity; all where omitted."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their identities, read once and shared by all that use them.

    Shape: images (N, C, H, W) uint8; identities (N,) int64, indices into `names`.
    """

    images: Tensor
    identities: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.identities)

    def subset(self, indices: Tensor) -> ImageSet:
        return ImageSet(self.images[indices], self.identities[indices], self.names)


class Dataset(ABC):
    """A source of images. A subclass says which identities there are and yields raw images of the wanted ones."""

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @abstractmethod
    def available(self) -> tuple[str, ...]:
        """Names of all identities there are, sorted, without reading images.

        Raises:
            DataError: if the source is missing or is not what it should be.
        """

    @abstractmethod
    def digest(self) -> str:
        """What the stored bytes are, as 64 hexadecimal digits: part of the key of every job that reads them."""

    @abstractmethod
    def read(self, names: frozenset[str]) -> Iterable[tuple[str, Image.Image]]:
        """Identity and image of every image of the named identities, in a fixed order."""

    def names(self) -> tuple[str, ...]:
        """The identities this configuration takes, in the order of their class index.

        Raises:
            DataError: if one is not there.
        """
        available = self.available()
        if self.config.identities is None:
            return available
        missing = sorted(set(self.config.identities) - set(available))
        if missing:
            raise DataError(
                f"identities: {self.config.kind} has no {', '.join(map(repr, missing[:5]))}. "
                f"Available: {', '.join(available[:10])}{', ...' if len(available) > 10 else ''}."
            )
        return self.config.identities

    def load(self) -> ImageSet:
        """All images of the configured identities, at the configured size."""
        names = self.names()
        index = {name: position for position, name in enumerate(names)}
        images: list[np.ndarray] = []
        identities: list[int] = []
        for name, image in self._capped(self.read(frozenset(names))):
            images.append(_pixels(image, self.config))
            identities.append(index[name])
        if not images:
            raise DataError(f"{self.config.kind}: no image of any of {len(names)} identities was found.")
        return ImageSet(torch.from_numpy(np.stack(images)), torch.tensor(identities), names)

    def _capped(self, rows: Iterable[tuple[str, Image.Image]]) -> Iterator[tuple[str, Image.Image]]:
        taken: dict[str, int] = {}
        for name, image in rows:
            taken[name] = taken.get(name, 0) + 1
            if self.config.max_per_identity is None or taken[name] <= self.config.max_per_identity:
                yield name, image


def _pixels(image: Image.Image, config: DatasetConfig) -> np.ndarray:
    """(C, H, W) uint8: converted, scaled so that the shorter side fits, cropped about the centre."""
    image = image.convert("L" if config.channels == 1 else "RGB")
    if image.size != (config.image_size, config.image_size):
        scale = config.image_size / min(image.size)
        width, height = (max(config.image_size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - config.image_size) // 2, (height - config.image_size) // 2
        image = image.crop((left, top, left + config.image_size, top + config.image_size))
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if config.channels == 1 else pixels.transpose(2, 0, 1)


class SplitConfig(FrozenConfig):
    """How private images are divided: one part trains target and evaluation model, the other measures them."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0


def split(identities: Tensor, config: SplitConfig) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the held-out images, drawn within each identity.

    Every identity has at least one image on either side. The split depends on the labels and the seed alone, so all
    models of a sweep share it.

    Raises:
        DataError: if an identity has a single image.
    """
    held_out = torch.zeros(len(identities), dtype=torch.bool)
    for identity in identities.unique().tolist():
        own = (identities == identity).nonzero().flatten()
        if len(own) < 2:
            raise DataError(f"class {identity} has one image: training and testing need at least two.")
        count = min(max(round(len(own) * config.test_fraction), 1), len(own) - 1)
        order = torch.randperm(len(own), generator=generator(f"split/{config.seed}", identity))
        held_out[own[order[:count]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


DATASETS: Registry[Dataset] = Registry("workloads.datasets")
