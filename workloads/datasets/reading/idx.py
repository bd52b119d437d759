"""Data sets in idx files: one file of images and one of labels for each part."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from workloads.core.errors import DataError
from workloads.datasets.reading.decoding import encode_png, read_file
from workloads.datasets.reading.raw import Entry, Part, RawDataset, find_path

Content = Literal["images-idx3", "labels-idx1"]
"""What an idx file holds, as its name says it."""
BYTES = b"\0\0\x08"
"""How an idx file of unsigned bytes begins; the number of dimensions follows, then their sizes, big-endian."""


class IdxDataset(RawDataset):
    """Small grey images in idx files, plain or gzipped; an identity is a character."""

    @abstractmethod
    def file_name(self, part: Part, content: Content) -> str:
        """Name of the file with the images or labels of a part, without '.gz'."""

    @abstractmethod
    def character(self, label: int) -> str:
        """The character that a label stands for."""

    def list_entries(self) -> list[Entry]:
        """Images of both parts, ordered by label."""
        labelled: list[tuple[int, Entry]] = []
        for part in get_args(Part):
            images = self._file(part, "images-idx3")
            labels = read_idx(self.root / self._file(part, "labels-idx1"))
            rows = enumerate(labels.tolist())
            labelled += [(label, Entry(f"{images}/{row:05d}", self.character(label), part)) for row, label in rows]
        return [entry for _, entry in sorted(labelled, key=lambda pair: pair[0])]

    def sources(self, entry: Entry) -> tuple[Path, ...]:
        """The file that holds the image."""
        return (self.root / entry.file.rpartition("/")[0],)

    def image(self, entry: Entry) -> Image.Image:
        """The image at its row of the file; refuses a label without one."""
        file, _, row = entry.file.rpartition("/")
        images = self._images[file]
        if int(row) >= len(images):
            raise DataError(f"{entry.file}: labelled, but {file} has {len(images)} images.")
        return Image.fromarray(images[int(row)])

    def encoded(self, entry: Entry) -> bytes:
        """The image as PNG, since the file holds raw pixels."""
        return encode_png(self.image(entry))

    @cached_property
    def _images(self) -> dict[str, np.ndarray]:
        """Images of each part, by name of their file."""
        files = [self._file(part, "images-idx3") for part in get_args(Part)]
        return {file: read_idx(self.root / file) for file in files}

    def _file(self, part: Part, content: Content) -> str:
        name = self.file_name(part, content)
        return find_path(self.root, name, f"{name}.gz")


def read_idx(file: Path) -> np.ndarray:
    """Read the unsigned bytes of an idx file, in the shape that its header gives.

    Raises:
        DataError: if it is not a complete idx file of bytes.
    """
    data = read_file(file)
    try:
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file} is damaged: {error}", field="path") from error
    dimensions = data[3] if len(data) > 3 and data[:3] == BYTES else 0
    header = 4 + 4 * dimensions
    sizes = struct.unpack(f">{dimensions}I", data[4:header]) if len(data) >= header else ()
    if not sizes or len(data) != header + math.prod(sizes):
        raise DataError(f"{file} is not a complete idx file of bytes: download it again.", field="path")
    return np.frombuffer(data, np.uint8, offset=header).reshape(sizes)
