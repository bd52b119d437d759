"""Data sets as they are downloaded: a list of their images, what a protocol keeps of each, and who is on it."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from workloads.core.config import Location
from workloads.core.errors import DataError
from workloads.datasets.base import Dataset, DatasetConfig, Sample
from workloads.datasets.reading.decoding import as_png, decode, stored

Part = Literal["train", "test"]
Side = Literal["private", "public"]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, as Pillow counts them."""
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What torchvision's ImageFolder takes for an image: splits drawn over its list depend on this."""


class RawConfig(DatasetConfig):
    """Where a download lies."""

    path: Annotated[str, Location(), Field(min_length=1)]
    """Folder of the download; relative to the spec file."""


class CheckedConfig(RawConfig):
    """A download whose size is known."""

    check: bool = True
    """Refuse a download whose counts are not the published ones."""


class CroppedConfig(RawConfig):
    """A download of which the middle is kept."""

    crop: PositiveInt | None = None
    """Side in pixels of the central square that is kept of each image; the whole image where omitted."""


class Entry(NamedTuple):
    """One image of a download."""

    file: str
    """Below the folder of the download; of an image that shares its file with others, file and number."""
    identity: str
    part: Part | None = None
    """Of the split that the data set publishes, where it publishes one."""


class RawDataset(Dataset):
    """A download. A subclass lists its images, and says what is kept of one where that is not all of it.

    A data set that knows nobody's identity is a single class with the name of the data set: it can serve as public
    data, which need none.
    """

    config: RawConfig
    nested: ClassVar[tuple[str, ...]] = ()
    """Folders in which an archive or torchvision may have put everything, below the one that the user names."""
    obtained: ClassVar[str] = ""
    """How a person gets the download, where `fetch` cannot."""

    @abstractmethod
    def list_entries(self) -> Iterable[Entry]:
        """Every image that the configuration speaks of, class by class, without opening one.

        Raises:
            DataError: if the download is not laid out as it should be.
        """

    def sources(self, entry: Entry) -> tuple[Path, ...]:
        """The files an image comes from: first its own, then those that say what is kept of it."""
        return (self.root / entry.file,)

    def crop(self, entry: Entry, size: tuple[int, int]) -> Box | None:
        """What is kept of an image of this width and height; None for all of it.

        Raises:
            DataError: if the image does not suit the protocol.
        """
        if isinstance(self.config, CroppedConfig) and self.config.crop is not None:
            return centre(entry, size, self.config.crop)
        return None

    def fetch(self) -> None:
        """Let torchvision's class for this data set download it into the configured folder."""
        raise DataError(f"{self.config.kind}: torchvision cannot download it: {self.obtained}")

    def download(self) -> None:
        """Download into the configured folder what is not there yet.

        Raises:
            DataError: if there is no class to do that, or it failed.
        """
        try:
            self.fetch()
        except (RuntimeError, OSError) as error:
            raise DataError(f"{self.config.kind}: torchvision's download failed: {error}") from error

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        """The configuration of what must not leak and of what an attacker has, as far as a download holds them."""
        return {"private": config}

    @cached_property
    def root(self) -> Path:
        """The folder of the download.

        Raises:
            DataError: if there is none.
        """
        given = Path(self.config.path)
        if not given.is_dir():
            raise DataError(f"path: no folder at {given}: give the one that {self.config.kind} was downloaded to.")
        return next((given / folder for folder in self.nested if (given / folder).is_dir()), given)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every image there should be. Never empty.

        Raises:
            DataError: as `list_entries`.
        """
        entries = tuple(self.list_entries())
        if not entries:
            raise DataError(f"path: {self.root} holds no images of {self.config.kind}.")
        return entries

    def counted(self) -> Mapping[str, int]:
        return Counter(entry.identity for entry in self.entries)

    def publishes_split(self) -> bool:
        return all(entry.part is not None for entry in self.entries)

    def digest(self) -> str:
        sources = list(dict.fromkeys(file for entry in self.entries for file in self.sources(entry)))
        missing = [file for file in sources if not file.is_file()]
        if missing:
            raise DataError(
                f"{self.config.kind}: {len(missing)} of {len(sources)} files are missing, {missing[0]} first: complete "
                f"the download, or let `midre data prepare {self.config.kind} --allow-missing` make do with the rest."
            )
        total = hashlib.sha256()
        for entry in self.entries:
            total.update("\t".join(map(str, entry)).encode() + b"\n")
        with ThreadPoolExecutor() as pool:
            for own in pool.map(lambda file: hashlib.sha256(stored(file)).digest(), sources):
                total.update(own)
        return total.hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        for entry in self.entries:
            if entry.identity in names:
                yield Sample(entry.identity, self.image(entry), None if entry.part is None else entry.part == "test")

    def image(self, entry: Entry) -> Image.Image:
        """What is kept of an image.

        Raises:
            DataError: if its file is missing or damaged, or does not suit the protocol.
        """
        return self._decoded(entry, stored(self.sources(entry)[0]))[0]

    def encoded(self, entry: Entry) -> bytes:
        """The same as a file: as it was downloaded where all of it is kept, else as PNG, which loses nothing.

        Raises:
            DataError: as `image`.
        """
        data = stored(self.sources(entry)[0])
        image, box = self._decoded(entry, data)
        return data if box is None else as_png(image)

    def _decoded(self, entry: Entry, data: bytes) -> tuple[Image.Image, Box | None]:
        image = decode(data, str(self.root / entry.file))
        box = self.crop(entry, image.size)
        return (image if box is None else image.crop(box)), box


def centre(entry: Entry, size: tuple[int, int], side: int) -> Box:
    """The central square of an image; half pixels go to the right and to the bottom.

    Raises:
        DataError: if the image is smaller.
    """
    width, height = size
    if side > min(size):
        raise DataError(f"{entry.file}: {width} x {height} pixels, of which the central {side} cannot be kept.")
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def located(root: Path, *candidates: str) -> str:
    """The first of these paths that exists below a folder.

    Raises:
        DataError: naming them, if none does.
    """
    found = next((path for path in candidates if (root / path).exists()), None)
    if found is None:
        raise DataError(f"path: {root} has no {' or '.join(candidates)}: give the folder as it was downloaded.")
    return found


def images_in(root: Path, folder: str) -> list[str]:
    """Images right inside a folder, as sorted paths below `root`."""
    names = sorted(file.name for file in (root / folder).iterdir() if file.suffix.lower() in SUFFIXES)
    return [PurePosixPath(folder, name).as_posix() for name in names]


def people_in(root: Path, folder: str = "") -> dict[str, list[str]]:
    """Images by person, each of whom has a folder; people and images in the order of ImageFolder."""
    people = sorted(entry.name for entry in (root / folder).iterdir() if entry.is_dir())
    found = {person: images_in(root, PurePosixPath(folder, person).as_posix()) for person in people}
    return {person: images for person, images in found.items() if images}


def drawn_parts(count: int) -> list[Part]:
    """The part of each of `count` images when nine in ten, drawn, are trained on.

    The draw is NumPy's legacy shuffle with seed 42 over the images in their order.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022: the split of all its data sets.
    """
    order = np.random.RandomState(42).permutation(count)
    parts: list[Part] = ["test"] * count
    for position in order[: int(0.9 * count)]:
        parts[position] = "train"
    return parts


def expect(found: Mapping[str, int], published: Mapping[str, int]) -> None:
    """Compare what a download holds with what was published.

    Raises:
        DataError: if a number differs.
    """
    if dict(found) != dict(published):
        here, there = (", ".join(f"{count} {what}" for what, count in own.items()) for own in (found, published))
        raise DataError(f"path: holds {here}, where {there} were published: complete it, or say check: false.")
