"""Every image of a data set decoded once: which cannot be, and digests by which copies are found. Kept between runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from workloads.core.config import digest
from workloads.core.errors import DataError
from workloads.core.files import write_atomically
from workloads.datasets.reading.stored import MissingImage, StoredImage, StoredImages

VERSION = 2
"""Raised whenever a census comes to hold something else."""
FOLDER_VARIABLE = "MIDRE_CACHE"
"""Environment variable that names the folder of stored censuses; ~/.cache/midre if it is not set."""
LOOK_SIDE = 16
LOOK_BITS = LOOK_SIDE**2
"""Bits of a look. With the usual 64, dozens of the faces in LFW look like those of other people."""
WAITING_PER_THREAD = 4
"""Images that are read ahead for each thread that decodes."""

Item = TypeVar("Item")
Result = TypeVar("Result")
OnImages = Callable[[int], None]
"""Called with the number of images that were just decoded."""


class DecodedImage(NamedTuple):
    """An image that could be decoded."""

    identity: str
    held_out: bool | None
    """Whether the published split keeps it out of training; None if there is none."""
    where: str
    pixels: str
    """Digest of its pixels, 32 hexadecimal digits."""
    look: int | None
    """`LOOK_BITS` bits that are alike for images that look alike; None for an image of one colour."""


@dataclass(frozen=True)
class BadImage:
    """An image that could not be decoded, and why."""

    where: str
    reason: str
    column: str | None = None
    """Column of a table that has no image in this row; None if there is one."""


@dataclass(frozen=True)
class Census:
    """All images of the configured identities, in the order in which they are read."""

    images: tuple[DecodedImage, ...]
    bad: tuple[BadImage, ...]

    def used(self, most: int | None) -> list[DecodedImage]:
        """The images that are used if at most this many are, of each identity in each part of a split."""
        counts: dict[tuple[str, bool | None], int] = {}
        used = []
        for image in self.images:
            part = (image.identity, image.held_out)
            counts[part] = counts.get(part, 0) + 1
            if most is None or counts[part] <= most:
                used.append(image)
        return used


def census_of(dataset: StoredImages, data_digest: str, on_images: OnImages = lambda count: None) -> Census:
    """The census of a data set whose `digest` is given: that of an earlier run, or a new one, which is kept.

    Raises:
        DataError: if the data set cannot be listed.
    """
    file = _file_for(dataset, data_digest)
    kept = _read(file)
    if kept is not None:
        return kept
    census = take_census(dataset, on_images)
    with contextlib.suppress(OSError):  # a home that cannot be written to: the next run decodes the images again
        write_atomically(file, zlib.compress(json.dumps(asdict(census)).encode(), level=1))
    return census


def take_census(dataset: StoredImages, on_images: OnImages = lambda count: None) -> Census:
    """Decode every image of the configured identities, on all cores.

    Raises:
        DataError: if the data set cannot be listed.
    """
    images: list[DecodedImage] = []
    bad: list[BadImage] = []
    stored = dataset.stored(frozenset(dataset.names()))
    for outcome in _map_in_order(_look_at, stored, threads=os.cpu_count() or 1):
        if isinstance(outcome, BadImage):
            bad.append(outcome)
        else:
            images.append(outcome)
        on_images(1)
    return Census(tuple(images), tuple(bad))


def _look_at(stored: StoredImage) -> DecodedImage | BadImage:
    try:
        image = stored.decode()
    except MissingImage as error:
        return BadImage(stored.where, _without_place(error, stored), error.column)
    except DataError as error:
        return BadImage(stored.where, _without_place(error, stored))
    return DecodedImage(stored.identity, stored.held_out, stored.where, pixel_digest(image), look_of(image))


def _without_place(error: DataError, stored: StoredImage) -> str:
    return error.reason.removeprefix(f"{stored.where}: ").rstrip(".")


def pixel_digest(image: Image.Image) -> str:
    """A digest of size and pixels, 32 hexadecimal digits: equal for equal pictures in whatever format."""
    colour = image.convert("RGB")
    return hashlib.sha256(f"{colour.size}".encode() + colour.tobytes()).hexdigest()[:32]


def look_of(image: Image.Image) -> int | None:
    """A difference hash: bits that say where an image gets brighter from left to right; None for a flat image.

    Source: Krawetz, "Kind of Like That", hackerfactor.com, 2013.
    """
    grey = np.asarray(image.convert("L").resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX), np.int16)
    if grey.min() == grey.max():
        return None
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def _map_in_order(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Results for all items in their order, computed by several threads without holding all items at a time."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:  # decoding releases the interpreter's lock
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= WAITING_PER_THREAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _file_for(dataset: StoredImages, data_digest: str) -> Path:
    settings = dataset.config.model_dump(mode="json", exclude={"image_size", "channels", "max_per_identity"})
    name = digest({"version": VERSION, "data": data_digest, "settings": settings})
    folder = os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "midre"
    return Path(folder) / "censuses" / f"{name}.json.z"


def _read(file: Path) -> Census | None:
    """A census that was kept; None if there is none, or what is there is damaged."""
    try:
        stored = json.loads(zlib.decompress(file.read_bytes()))
        images = tuple(DecodedImage(*image) for image in stored["images"])
        return Census(images, tuple(BadImage(**bad) for bad in stored["bad"]))
    except (OSError, ValueError, KeyError, TypeError, zlib.error):
        return None
