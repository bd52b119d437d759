"""Image files, in one folder per identity."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from workloads.core.config import Location
from workloads.core.errors import DataError
from workloads.core.words import counted
from workloads.datasets.base import DATASETS
from workloads.datasets.reading.decoding import image_digest, read_file
from workloads.datasets.reading.folders import SUFFIXES, count_strays, list_image_files, visible_folders
from workloads.datasets.reading.parts import NamedPart, held_out_part, part_of_folder
from workloads.datasets.reading.stored import ImageFiles, ImageFilesConfig, StoredImage

UNREAD = b"unread"
"""What stands in the digest for a file that cannot be read. Unless such files are skipped, no job reads the folder."""
TABLES = {".parquet": "parquet", ".tar": "webdataset"}
"""Data sets that read other files in a folder, by their endings."""


class ImageFolderConfig(ImageFilesConfig):
    """Where the folders lie, and which of their images to use."""

    kind: Literal["image_folder"] = "image_folder"
    path: Annotated[str, Location(), Field(min_length=1)]
    """Folder with one sub-folder per identity, or with such folders below `train` and `test` or `val`; relative to the
    spec file."""


class _File(NamedTuple):
    """An image and its part of the published split, if there is one."""

    path: Path
    held_out: bool | None


class _Contents(NamedTuple):
    """All images by identity, sorted, and what is left out, by reason."""

    images: Mapping[str, list[_File]]
    left_out: Counter[str]
    publishes_split: bool


@DATASETS.register(ImageFolderConfig)
class ImageFolder(ImageFiles):
    """One folder per identity with image files inside, in sub-folders or not: the layout of most downloads.

    Folders `train`, and `test` or `val`, above those of the identities are a published split. If there are all three,
    `val` is left out. Hidden files and what Pillow does not read are left out and counted.

    Source: torchvision.datasets.ImageFolder, whose layout this is.
    """

    config: ImageFolderConfig

    def image_counts(self) -> dict[str, int]:
        """Images in each sub-folder that has any."""
        return {name: len(files) for name, files in self._contents.images.items()}

    def publishes_split(self) -> bool:
        """Whether folders named after the parts of a split lie above those of the identities."""
        return self._contents.publishes_split

    def left_out(self) -> Counter[str]:
        """Hidden files, those that are no images, folders without images, and a third part of a split."""
        return self._contents.left_out

    def notes(self) -> Iterator[str]:
        """That all images lie one folder deeper than identities do."""
        folders = visible_folders(self._root)
        if len(folders) == 1 and self._holds_folders(folders[0]) and not self._parts():
            yield (
                f"{folders[0]}/ is one identity, with all folders in it: if these are the identities, set path: "
                f"{self._root / folders[0]}"
            )

    def digest(self) -> str:
        """A digest of all names and files."""
        total = hashlib.sha256()
        for name in self.available():
            for file in self._contents.images[name]:
                relative = file.path.relative_to(self._root).as_posix()
                total.update(f"{relative}\n".encode(errors="surrogateescape") + self._digest_of(file.path))
        return total.hexdigest()

    def stored(self, names: frozenset[str]) -> Iterator[StoredImage]:
        """Images of the sub-folders, in the order of their names."""
        for name in sorted(names):
            for file in self._contents.images[name]:
                yield self.stored_image(name, str(file.path), partial(read_file, file.path), file.held_out)

    @property
    def _root(self) -> Path:
        return Path(self.config.path)

    def _digest_of(self, file: Path) -> bytes:
        try:
            return image_digest(read_file(file))
        except DataError:
            return UNREAD

    @cached_property
    def _contents(self) -> _Contents:
        """Everything below the folder, listed once.

        Raises:
            DataError: if there is no folder, no image in it, or a split among folders of identities.
        """
        if not self._root.is_dir():
            raise DataError(
                f"no folder at {self._root}: give the folder whose sub-folders are the identities.", field="path"
            )
        try:
            parts = self._parts()
            contents = self._list_split(parts) if parts else self._list_identities()
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be opened: {error.strerror}.", field="path") from error
        if not contents.images:
            raise DataError(self._why_empty(contents.left_out), field="path")
        return contents

    def _why_empty(self, left_out: Counter[str]) -> str:
        """A line on a folder without identities: what it holds instead."""
        lies_flat = list_image_files(self._root).files
        if lies_flat:
            return (
                f"{self._root} holds images without folders: put those of each identity into a folder named after it."
            )
        for suffix, kind in TABLES.items():
            if any(self._root.glob(f"*{suffix}")):
                return f"{self._root} has no sub-folder with images, but {suffix} files: set kind: {kind}."
        counts = [counted(count, reason) for reason, count in left_out.items() if count]
        there = f" It holds {', '.join(counts)}." if counts else ""
        return f"{self._root} has no sub-folder with images ({', '.join(sorted(SUFFIXES))}).{there}"

    def _parts(self) -> dict[str, NamedPart]:
        """The part of each folder that holds one; empty unless folders are those of a split.

        Raises:
            DataError: if there are other folders beside them, or none to train on.
        """
        folders = visible_folders(self._root)
        parts = {name: part for name in folders if (part := part_of_folder(name)) and self._holds_folders(name)}
        others = [name for name in folders if name not in parts]
        if "train" not in parts.values():
            if parts and not others:
                listed = " and ".join(f"{name}/" for name in parts)
                raise DataError(f"{self._root} has {listed} and no train/: give the path of one of them.", field="path")
            return {}
        if others:
            listed = ", ".join(f"{name}/" for name in parts)
            raise DataError(
                f"{self._root} has {listed} as a published split has, and {others[0]}/ beside: leave only one kind of "
                "folder there, or give the path of one of them.",
                field="path",
            )
        return parts

    def _holds_folders(self, name: str) -> bool:
        """Whether a folder holds folders and no images, so that it may hold identities."""
        folder = self._root / name
        return bool(visible_folders(folder)) and not any(
            file.suffix.lower() in SUFFIXES for file in folder.iterdir() if file.is_file()
        )

    def _list_split(self, parts: Mapping[str, NamedPart]) -> _Contents:
        held_out = held_out_part(parts.values())
        images: dict[str, list[_File]] = {}
        left_out = count_strays(self._root)
        for folder, part in sorted(parts.items(), key=lambda item: item[1] != "train"):
            for name, files in self._list_people(self._root / folder, left_out).items():
                if part in ("train", held_out):
                    is_held_out = part == held_out if held_out else None
                    images.setdefault(name, []).extend(_File(file, is_held_out) for file in files)
                else:
                    left_out[f"image{{s}} in {folder}/, which neither trains nor tests"] += len(files)
        return _Contents(dict(sorted(images.items())), left_out, held_out is not None)

    def _list_identities(self) -> _Contents:
        left_out: Counter[str] = Counter()
        people = self._list_people(self._root, left_out)
        return _Contents(
            {name: [_File(file, None) for file in files] for name, files in people.items()}, left_out, False
        )

    @staticmethod
    def _list_people(root: Path, left_out: Counter[str]) -> dict[str, tuple[Path, ...]]:
        """Images below each folder that has any; everything else is counted."""
        left_out += count_strays(root)
        people: dict[str, tuple[Path, ...]] = {}
        for name in visible_folders(root):
            listing = list_image_files(root / name)
            left_out += listing.left_out
            if listing.files:
                people[name] = listing.files
            else:
                left_out["folder{s} without images"] += 1
        return people
