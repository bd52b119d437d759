"""What a data set is: images with identities, held as uint8, and how private images are split into train and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import Tensor

from workloads.core.config import Addition, ComponentConfig, FrozenConfig
from workloads.core.errors import DataError
from workloads.core.randomness import generator
from workloads.core.registry import Registry

Name = Annotated[str, Field(min_length=1)]


class DatasetConfig(ComponentConfig):
    """Which images to take of a data set, and the shape they get."""

    image_size: PositiveInt = 32
    """Side of the square images in pixels; the shorter side is scaled to it and the longer one is cropped."""
    channels: Literal[1, 3] = 3
    identities: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Names of the identities to take, in the order of their class index; all, in the order of the data set, where
    omitted."""
    max_per_identity: PositiveInt | None = None
    """The first so many images of each identity, from either part of a published split; all where omitted."""

    @field_validator("identities")
    @classmethod
    def _are_distinct(cls, identities: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = [name for name, times in Counter(identities or ()).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice: name each once")
        return identities


class Sample(NamedTuple):
    """One image as a data set yields it."""

    identity: str
    image: Image.Image
    held_out: bool | None = None
    """Whether the split that the data set publishes keeps it out of training; None where it publishes none."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their identities, read once and shared by all that use them.

    Shape: images (N, C, H, W) uint8; identities (N,) int64, indices into `names`; held_out (N,) bool, or None where
    the data set publishes no split.
    """

    images: Tensor
    identities: Tensor
    names: tuple[str, ...]
    held_out: Tensor | None = None

    def __len__(self) -> int:
        return len(self.identities)

    def subset(self, indices: Tensor) -> ImageSet:
        held_out = None if self.held_out is None else self.held_out[indices]
        return ImageSet(self.images[indices], self.identities[indices], self.names, held_out)

    def split(self, config: SplitConfig) -> tuple[ImageSet, ImageSet]:
        """The images to train on, and those that measure what came of it.

        Raises:
            DataError: if there are too few images for the rule, or nobody published a split.
        """
        sides = self._published_split() if config.rule == "published" else split(self.identities, config)
        return self.subset(sides[0]), self.subset(sides[1])

    def _published_split(self) -> tuple[Tensor, Tensor]:
        if self.held_out is None:
            raise DataError("split.rule: these images come without a published split: take the rule 'fraction'.")
        trained = self.identities[~self.held_out].unique()
        if len(trained) < len(self.names) or not self.held_out.any():
            raise DataError(
                f"split.rule: the published split trains on {len(trained)} of {len(self.names)} identities and holds "
                f"{int(self.held_out.sum())} images out: take the rule 'fraction', or fewer identities."
            )
        return (~self.held_out).nonzero().flatten(), self.held_out.nonzero().flatten()


class Dataset(ABC):
    """A source of images. A subclass says which identities there are and yields raw images of the wanted ones."""

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @abstractmethod
    def counted(self) -> Mapping[str, int]:
        """How many images there are of each identity, none of them decoded.

        Identities are sorted, unless the data set orders its classes.

        Raises:
            DataError: if the source is missing or is not what it should be.
        """

    @abstractmethod
    def digest(self) -> str:
        """What the stored bytes are, as 64 hexadecimal digits: part of the key of every job that reads them."""

    @abstractmethod
    def read(self, names: frozenset[str]) -> Iterable[Sample]:
        """Every image of the named identities, in a fixed order."""

    def publishes_split(self) -> bool:
        """Whether every image comes with the part of a published split that it belongs to."""
        return False

    def available(self) -> tuple[str, ...]:
        """Names of all identities there are; raises as `counted`."""
        return tuple(self.counted())

    def sizes(self) -> Mapping[str, int]:
        """How many images this configuration takes of each of its identities, both parts of a published split added."""
        counted, most = self.counted(), self.config.max_per_identity
        return {name: counted[name] if most is None else min(counted[name], most) for name in self._chosen(counted)}

    def names(self) -> tuple[str, ...]:
        """The identities this configuration takes, in the order of their class index.

        Raises:
            DataError: if one is not there.
        """
        return self._chosen(self.available())

    def _chosen(self, available: Iterable[str]) -> tuple[str, ...]:
        """Those of all identities that the configuration names, in its order."""
        available = tuple(available)
        if self.config.identities is None:
            return available
        missing = sorted(set(self.config.identities) - set(available))
        if missing:
            raise DataError(
                f"identities: {self.config.kind} has no {', '.join(map(repr, missing[:5]))}. "
                f"Available: {', '.join(available[:10])}{', ...' if len(available) > 10 else ''}."
            )
        return self.config.identities

    def trait_table(self) -> Mapping[str, Sequence[float]]:
        """What is known of each configured identity beside its name, in the order of class indices; mostly nothing.

        Whole numbers are kinds, such as a hair style; others are measures, such as a length.
        """
        return {}

    def load(self) -> ImageSet:
        """All images of the configured identities, at the configured size."""
        names = self.names()
        index = {name: position for position, name in enumerate(names)}
        images: list[np.ndarray] = []
        identities: list[int] = []
        held_out: list[bool | None] = []
        for sample in self._capped(self.read(frozenset(names))):
            images.append(_pixels(sample.image, self.config))
            identities.append(index[sample.identity])
            held_out.append(sample.held_out)
        if not images:
            raise DataError(f"{self.config.kind}: no image of any of {len(names)} identities was found.")
        flags = None if None in held_out else torch.tensor(held_out)
        return ImageSet(torch.from_numpy(np.stack(images)), torch.tensor(identities), names, flags)

    def _capped(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        taken: Counter[tuple[str, bool | None]] = Counter()
        for sample in samples:
            part = (sample.identity, sample.held_out)
            taken[part] += 1
            if self.config.max_per_identity is None or taken[part] <= self.config.max_per_identity:
                yield sample


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

    rule: Annotated[Literal["fraction", "published"], Addition()] = "fraction"
    """Draw a fraction of each identity, or take the split that the data set itself publishes."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of the images of each identity; `fraction` only."""
    seed: int = 0
    """Of the draw; `fraction` only."""

    @model_validator(mode="after")
    def _nothing_unused(self) -> SplitConfig:
        if self.rule == "published" and (self.test_fraction, self.seed) != (0.2, 0):
            raise ValueError("test_fraction and seed have no part in a published split: leave them out")
        return self


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
        count = held_out_of(len(own), config)
        order = torch.randperm(len(own), generator=generator(f"split/{config.seed}", identity))
        held_out[own[order[:count]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def held_out_of(images: int, config: SplitConfig) -> int:
    """How many of two or more images of an identity are held out."""
    return min(max(round(images * config.test_fraction), 1), images - 1)


DATASETS: Registry[DatasetConfig, Dataset] = Registry("workloads.datasets")
