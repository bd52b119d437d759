"""Data sets as they are downloaded: their images, whom each shows, and which part of it a protocol keeps."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from workloads.core.config import Location
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS, DatasetConfig
from workloads.datasets.reading.decoding import decode_image, encode_png, image_digest, read_file
from workloads.datasets.reading.stored import StoredImage, StoredImages

Part = Literal["train", "test"]
"""Part of a published split."""
Side = Literal["private", "public"]
"""What must not leak, and what the attacker has."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, as Pillow counts them."""
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files that torchvision's ImageFolder takes for images: splits drawn over its list depend on this."""


class RawConfig(DatasetConfig):
    """Where a download lies, and which of its images to use."""

    path: Annotated[str, Location(), Field(min_length=1)]
    """Folder of the download; relative to the spec file."""


class CheckedConfig(RawConfig):
    """A download whose published size can be checked."""

    check: bool = True
    """Refuse a download whose counts differ from the published ones; switch it off to use a part of it."""


class CroppedConfig(RawConfig):
    """A download whose images can be cropped."""

    crop: PositiveInt | None = None
    """Side in pixels of the central square that is kept of each image; if omitted, the full image is kept."""


class Entry(NamedTuple):
    """One image of a download."""

    file: str
    """Path below the folder of the download; if several images share a file, the file and a number."""
    identity: str
    """Name of the identity it shows."""
    part: Part | None = None
    """Its part of the split that the data set publishes; None if it publishes none."""


class RawDataset(StoredImages):
    """A data set as it is downloaded. A subclass lists its images, and may say which box of an image to keep.

    A data set without identities is a single class with the name of the data set: it can serve as public data, which
    need none.
    """

    config: RawConfig
    side: ClassVar[Side] = "private"
    """The side of a study that the download serves, unless `sides` says that it holds both."""
    subfolders: ClassVar[tuple[str, ...]] = ()
    """Folders in which an archive or torchvision may have put everything, below the one that the user names."""
    how_to_get: ClassVar[str] = ""
    """What to do to get the download, if it cannot be fetched."""

    @abstractmethod
    def list_entries(self) -> Iterable[Entry]:
        """List every configured image, class by class, without opening any.

        Raises:
            DataError: if the download is not laid out as it should be.
        """

    def sources(self, entry: Entry) -> tuple[Path, ...]:
        """Files that an image depends on: first the one with its pixels, then those that say which box is kept."""
        return (self.root / entry.file,)

    def crop(self, entry: Entry, size: tuple[int, int]) -> Box | None:
        """Box that is kept of an image of this width and height; None for the full image.

        Raises:
            DataError: if the image does not suit the protocol.
        """
        if isinstance(self.config, CroppedConfig) and self.config.crop is not None:
            return central_box(entry, size, self.config.crop)
        return None

    def fetch(self) -> None:
        """Download into the configured folder, by torchvision's class for this data set where it has one."""
        raise DataError(f"{self.config.kind}: it cannot be downloaded by a program: {self.how_to_get}")

    def download(self) -> None:
        """Download into the configured folder what is not there yet.

        Raises:
            DataError: if this data set cannot be downloaded by a program, or the download failed.
        """
        try:
            self.fetch()
        except (RuntimeError, OSError) as error:
            raise DataError(f"{self.config.kind}: the download failed: {error}") from error

    def sides(self) -> Mapping[Side, RawConfig]:
        """Configurations of the private and of the public images, for the sides that the download holds."""
        return {self.side: self.config}

    @cached_property
    def root(self) -> Path:
        """Folder that holds the files of the download.

        Raises:
            DataError: if there is none.
        """
        path = Path(self.config.path)
        if not path.is_dir():
            raise DataError(
                f"no folder at {path}: give the one that {self.config.kind} was downloaded to.", field="path"
            )
        return next((path / folder for folder in self.subfolders if (path / folder).is_dir()), path)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every image there should be. Never empty.

        Raises:
            DataError: as `list_entries`.
        """
        entries = tuple(self.list_entries())
        if not entries:
            raise DataError(f"{self.root} holds no images of {self.config.kind}.", field="path")
        return entries

    def image_counts(self) -> Mapping[str, int]:
        """Listed images of each identity."""
        return Counter(entry.identity for entry in self.entries)

    def publishes_split(self) -> bool:
        """Whether every image comes with its part."""
        return all(entry.part is not None for entry in self.entries)

    def digest(self) -> str:
        """A digest of the listed files; refuses a download with gaps."""
        sources = list(dict.fromkeys(file for entry in self.entries for file in self.sources(entry)))
        missing = [file for file in sources if not file.is_file()]
        if missing:
            raise DataError(
                f"{self.config.kind}: {len(missing)} of {len(sources)} files are missing, {missing[0]} first: complete "
                f"the download, or let `midre data prepare {self.config.kind} --allow-missing` prepare the rest."
            )
        total = hashlib.sha256()
        for entry in self.entries:
            total.update("\t".join(map(str, entry)).encode() + b"\n")
        with ThreadPoolExecutor() as pool:
            for file_digest in pool.map(lambda file: image_digest(read_file(file)), sources):
                total.update(file_digest)
        return total.hexdigest()

    def stored(self, names: frozenset[str]) -> Iterator[StoredImage]:
        """Listed images of these identities, which are cropped as they are decoded."""
        for entry in self.entries:
            if entry.identity in names:
                held_out = None if entry.part is None else entry.part == "test"
                yield StoredImage(entry.identity, str(self.root / entry.file), partial(self.image, entry), held_out)

    def image(self, entry: Entry) -> Image.Image:
        """Decode an image and crop it to the box that is kept.

        Raises:
            DataError: if its file is missing or damaged, or does not suit the protocol.
        """
        return self._decoded(entry, read_file(self.sources(entry)[0]))[0]

    def encoded(self, entry: Entry) -> bytes:
        """The kept image as a file: as it was downloaded if nothing was cropped, else as PNG, which loses nothing.

        Raises:
            DataError: as `image`.
        """
        data = read_file(self.sources(entry)[0])
        image, box = self._decoded(entry, data)
        return data if box is None else encode_png(image)

    def _decoded(self, entry: Entry, data: bytes) -> tuple[Image.Image, Box | None]:
        image = decode_image(data, str(self.root / entry.file))
        box = self.crop(entry, image.size)
        return (image if box is None else image.crop(box)), box


def open_download(config: RawConfig) -> RawDataset:
    """Build the data set of a download.

    Raises:
        TypeError: if a config for downloads was registered for a data set that is not a RawDataset.
    """
    dataset = DATASETS.build(config)
    if not isinstance(dataset, RawDataset):
        raise TypeError(f"{config.kind}: {type(config).__name__} belongs to a RawDataset, not {type(dataset).__name__}")
    return dataset


def both_sides(config: RawConfig) -> Mapping[Side, RawConfig]:
    """Configurations of both sides of a download with a field `side`; `identities` applies to the private one."""
    public = config.model_copy(update={"side": "public", "identities": None})
    return {"private": config.model_copy(update={"side": "private"}), "public": public}


def central_box(entry: Entry, size: tuple[int, int], side: int) -> Box:
    """Box of the central square of an image; an odd margin is wider to the right and at the bottom.

    Raises:
        DataError: if the image is smaller.
    """
    width, height = size
    if side > min(size):
        raise DataError(f"{entry.file}: {width} x {height} pixels, of which the central {side} cannot be kept.")
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def find_path(root: Path, *candidates: str) -> str:
    """Return the first of these paths that exists below a folder.

    Raises:
        DataError: naming them, if none does.
    """
    path = next((candidate for candidate in candidates if (root / candidate).exists()), None)
    if path is None:
        raise DataError(f"{root} has no {' or '.join(candidates)}: give the folder as it was downloaded.", field="path")
    return path


def list_images(root: Path, folder: str) -> list[str]:
    """List the images directly inside a folder, as sorted paths below `root`."""
    names = sorted(file.name for file in (root / folder).iterdir() if file.suffix.lower() in SUFFIXES)
    return [PurePosixPath(folder, name).as_posix() for name in names]


def list_people(root: Path, folder: str = "") -> dict[str, list[str]]:
    """List images by person, each of whom has a folder; people and images in the order of ImageFolder."""
    people = sorted(entry.name for entry in (root / folder).iterdir() if entry.is_dir())
    images = {person: list_images(root, PurePosixPath(folder, person).as_posix()) for person in people}
    return {person: files for person, files in images.items() if files}


def draw_parts(count: int) -> list[Part]:
    """Draw the part of each of `count` images; nine in ten are trained on.

    The draw is NumPy's legacy shuffle with seed 42 over the images in their order.

    Source: Struppek et al., "Plug & Play Attacks", ICML 2022: the split of all its data sets.
    """
    order = np.random.RandomState(42).permutation(count)
    parts: list[Part] = ["test"] * count
    for position in order[: int(0.9 * count)]:
        parts[position] = "train"
    return parts


def check_counts(counts: Mapping[str, int], published: Mapping[str, int]) -> None:
    """Compare what a download holds with what was published.

    Raises:
        DataError: if a number differs.
    """
    if dict(counts) != dict(published):
        here, there = _as_text(counts), _as_text(published)
        raise DataError(f"holds {here}, where {there} were published: complete it, or set check: false.", field="path")


def _as_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {noun}" for noun, count in counts.items())
