"""Base classes of data sets: images with identities, held as uint8, and their split into train and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
"""Name of an identity."""


class DatasetConfig(ComponentConfig):
    """Which images of a data set to use, and their size."""

    image_size: Annotated[int, Field(gt=0, le=4096)] = 32
    """Side of the square images in pixels; the shorter side is scaled to it and the longer one is cropped."""
    channels: Literal[1, 3] = 3
    """1 for grey images, 3 for colour; images are converted."""
    identities: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Names of the identities to use, in the order of their class index. If omitted, all of them, in the order of the
    data set."""
    max_per_identity: PositiveInt | None = None
    """Use only the first N images of each identity, counted in each part of a published split. If omitted, all."""

    @field_validator("identities")
    @classmethod
    def _are_distinct(cls, identities: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = [name for name, count in Counter(identities or ()).items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]!r} is named twice: name each identity once")
        return identities


class Sample(NamedTuple):
    """One image as a data set yields it."""

    identity: str
    """Name of the identity it shows."""
    image: Image.Image
    """The image, in its stored size and mode."""
    held_out: bool | None = None
    """Whether the split that the data set publishes keeps it out of training; None if it publishes none."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their identities, read once and shared by all that use them.

    Shape: images (N, C, H, W) uint8; identities (N,) int64, indices into `names`; held_out (N,) bool, or None if the
    data set publishes no split.
    """

    images: Tensor
    identities: Tensor
    names: tuple[str, ...]
    held_out: Tensor | None = None
    selected_from: ImageSet | None = None
    """The set as it was read, if this is a part of it; devices hold one copy of it for all parts."""
    rows: Tensor | None = None
    """Positions of this part in that set. Shape: (N,) int64."""
    copies: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """The images on other devices, of a set as it was read."""

    @property
    def original(self) -> ImageSet:
        """The set that these images were selected from; itself if it was read as it is."""
        return self.selected_from or self

    def __len__(self) -> int:
        return len(self.identities)

    def subset(self, indices: Tensor) -> ImageSet:
        """Images at these positions, under the same names. Shape: indices (M,) int64."""
        held_out = None if self.held_out is None else self.held_out[indices]
        rows = indices if self.rows is None else self.rows[indices]
        return ImageSet(self.images[indices], self.identities[indices], self.names, held_out, self.original, rows)

    def split(self, config: SplitConfig) -> tuple[ImageSet, ImageSet]:
        """Divide into images to train on and images to test on.

        Raises:
            DataError: if there are too few images for the rule, or the data set publishes no split.
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
    """A source of images. A subclass says which identities it has, and yields the stored images of some of them."""

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @abstractmethod
    def image_counts(self) -> Mapping[str, int]:
        """Number of images of every identity, counted without decoding any.

        Identities are sorted, unless the data set orders its classes.

        Raises:
            DataError: if the source is missing or is not what it should be.
        """

    @abstractmethod
    def digest(self) -> str:
        """64 hexadecimal digits that identify the stored bytes: part of the key of every job that reads them."""

    @abstractmethod
    def read(self, names: frozenset[str]) -> Iterable[Sample]:
        """Yield every image of the named identities, in a fixed order."""

    def publishes_split(self) -> bool:
        """Whether every image comes with its part of a published split."""
        return False

    def left_out(self) -> Mapping[str, int]:
        """Numbers of files or rows that are not read, by the reason in words, `{s}` standing for a plural's ending."""
        return {}

    def notes(self) -> Iterable[str]:
        """What users should know of how the images are read, a clause each."""
        return ()

    def available(self) -> tuple[str, ...]:
        """Names of all identities in the data set; raises as `image_counts`."""
        return tuple(self.image_counts())

    def sizes(self) -> Mapping[str, int]:
        """Number of images of each configured identity, counting both parts of a published split together.

        `max_per_identity` is applied to the sum, although `load` applies it to each part.
        """
        counts, most = self.image_counts(), self.config.max_per_identity
        return {name: counts[name] if most is None else min(counts[name], most) for name in self._configured(counts)}

    def names(self) -> tuple[str, ...]:
        """Names of the configured identities, in the order of their class index.

        Raises:
            DataError: if the data set lacks one.
        """
        return self._configured(self.available())

    def _configured(self, available: Iterable[str]) -> tuple[str, ...]:
        """Select from all identities those that the configuration names, in its order."""
        available = tuple(available)
        if self.config.identities is None:
            return available
        missing = sorted(set(self.config.identities) - set(available))
        if missing:
            raise DataError(
                f"{self.config.kind} has no {', '.join(map(repr, missing[:5]))}. "
                f"Available: {', '.join(available[:10])}{', ...' if len(available) > 10 else ''}.",
                field="identities",
            )
        return self.config.identities

    def trait_table(self) -> Mapping[str, Sequence[float]]:
        """Traits of the configured identities, by name of the trait, in the order of class indices; empty if unknown.

        Whole numbers are categories, such as a hair style; others are measures, such as a length.
        """
        return {}

    def load(self) -> ImageSet:
        """Read all images of the configured identities, at the configured size.

        Raises:
            DataError: if there are none, or one cannot be read.
        """
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
        """Yield samples, at most `max_per_identity` of each identity in each part."""
        counts: Counter[tuple[str, bool | None]] = Counter()
        for sample in samples:
            part = (sample.identity, sample.held_out)
            counts[part] += 1
            if self.config.max_per_identity is None or counts[part] <= self.config.max_per_identity:
                yield sample


def _pixels(image: Image.Image, config: DatasetConfig) -> np.ndarray:
    """Convert an image, scale it so that the shorter side fits, crop it about the centre. Shape: (C, H, W) uint8."""
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
    """How to divide private images: one part trains target and evaluation model, the other tests them."""

    rule: Annotated[Literal["fraction", "published"], Addition()] = "fraction"
    """`fraction` draws a fraction of each identity; `published` takes the split that comes with the data set."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of the images of each identity that is held out for testing. Only for `fraction`."""
    seed: int = 0
    """Seed of the draw. Only for `fraction`."""

    @model_validator(mode="after")
    def _nothing_unused(self) -> SplitConfig:
        if self.rule == "published" and (self.test_fraction, self.seed) != (0.2, 0):
            raise ValueError("test_fraction and seed have no part in a published split: leave them out")
        return self


def split(identities: Tensor, config: SplitConfig) -> tuple[Tensor, Tensor]:
    """Draw, within each identity, the indices of the training images and of the held-out ones.

    Every identity has at least one image on either side. The split depends on identities and seed alone, so all
    models of a sweep share it.

    Shape: identities (N,) int64 to two of (M,) int64, each in ascending order.
    Raises:
        DataError: if an identity has a single image.
    """
    held_out = torch.zeros(len(identities), dtype=torch.bool)
    for identity in identities.unique().tolist():
        indices = (identities == identity).nonzero().flatten()
        if len(indices) < 2:
            raise DataError(f"class {identity} has one image: training and testing need at least two.")
        count = held_out_of(len(indices), config)
        order = torch.randperm(len(indices), generator=generator(f"split/{config.seed}", identity))
        held_out[indices[order[:count]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def held_out_of(images: int, config: SplitConfig) -> int:
    """Number of images held out of `images` of one identity, which must be two or more."""
    return min(max(round(images * config.test_fraction), 1), images - 1)


DATASETS: Registry[DatasetConfig, Dataset] = Registry("workloads.datasets")
