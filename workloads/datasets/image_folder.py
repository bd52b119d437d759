"""Image files, in one folder per identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from workloads.core.config import Location
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig, Sample
from workloads.datasets.reading.decoding import decode_image, read_file

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Files that count as images."""


class ImageFolderConfig(DatasetConfig):
    """Where the folders lie, and which of their images to use."""

    kind: Literal["image_folder"] = "image_folder"
    path: Annotated[str, Location(), Field(min_length=1)]
    """Folder with one sub-folder per identity; relative to the spec file."""


@DATASETS.register(ImageFolderConfig)
class ImageFolder(Dataset):
    """One folder per identity with image files inside: the layout of most downloads.

    Source: torchvision.datasets.ImageFolder, whose layout this is.
    """

    config: ImageFolderConfig

    def image_counts(self) -> dict[str, int]:
        """Images in each sub-folder that has any."""
        root = Path(self.config.path)
        if not root.is_dir():
            raise DataError(f"no folder at {root}: give the folder whose sub-folders are the identities.", field="path")
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        counts = {name: count for name in folders if (count := len(self._files(name)))}
        if not counts:
            raise DataError(f"{root} has no sub-folder with images ({', '.join(sorted(SUFFIXES))}).", field="path")
        return counts

    def digest(self) -> str:
        """A digest of all names and files."""
        total = hashlib.sha256()
        for name in self.available():
            for file in self._files(name):
                total.update(f"{name}/{file.name}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Images of the sub-folders, in the order of their names."""
        for name in sorted(names):
            for file in self._files(name):
                yield Sample(name, decode_image(read_file(file), str(file)))

    def _files(self, name: str) -> list[Path]:
        folder = Path(self.config.path) / name
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
