"""Images in tar files as WebDataset writes them: members of a sample share a name, their endings say what each is."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from workloads.core.config import Location
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS
from workloads.datasets.reading.decoding import conversion_mark
from workloads.datasets.reading.folders import LEFT_OUT_HIDDEN, SUFFIXES, is_hidden
from workloads.datasets.reading.parts import held_out_part, part_of_file, pooled_in_words
from workloads.datasets.reading.stored import ImageFiles, ImageFilesConfig, StoredImage


class WebdatasetConfig(ImageFilesConfig):
    """Where the tar files lie, and where their samples say whom they show."""

    kind: Literal["webdataset"] = "webdataset"
    path: Annotated[str, Location(), Field(min_length=1)]
    """A tar file that is not compressed, or a folder of them, read in the order of their names; relative to the spec
    file."""
    label: Annotated[str, Field(min_length=1)] = "cls"
    """Ending of the member that holds a sample's label: text such as a name or a number; or `json` with `label_key`."""
    label_key: str = "label"
    """Key of the label in a member that ends in `json`."""
    parts_by_file: bool = False
    """Whether names of files that begin with `train`, `test` or `validation` are the published split. If there are
    all three, `validation` is left out."""


class _Member(NamedTuple):
    """Where the bytes of a member lie in its tar file."""

    archive: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.archive.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


class _Sample(NamedTuple):
    """An image and whom it shows."""

    identity: str
    image: _Member
    held_out: bool | None


@DATASETS.register(WebdatasetConfig)
class Webdataset(ImageFiles):
    """Tar files of samples, such as `0001.jpg` with `0001.cls`.

    Nothing is unpacked: a sample is read at its place in the tar file.

    Source: the WebDataset format, github.com/webdataset/webdataset.
    """

    config: WebdatasetConfig

    def image_counts(self) -> Mapping[str, int]:
        """Samples of each label; labels that are all numbers are sorted as numbers."""
        counts = Counter(sample.identity for sample in self._samples)
        if not counts:
            raise DataError(f"{self.config.path} holds no sample with an image.", field="path")
        are_numbers = all(name.isdecimal() for name in counts)
        return dict(sorted(counts.items(), key=lambda item: (int(item[0]) if are_numbers else 0, item[0])))

    def publishes_split(self) -> bool:
        """Whether the names of the files say which samples are held out."""
        return self.config.parts_by_file

    def left_out(self) -> Counter[str]:
        """Hidden members, samples without an image, and those of validation."""
        return self._samples_and_rest[1]

    def notes(self) -> Iterator[str]:
        """Files that are read as one although their names speak of a split."""
        pooled = pooled_in_words([archive.name for archive in self._archives])
        if pooled and not self.publishes_split():
            yield pooled

    def digest(self) -> str:
        """A digest of all files, and of how they are read where that is not plain."""
        total = hashlib.sha256()
        for archive in self._archives:
            with archive.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        for number, sample in enumerate(self._samples):
            if mark := conversion_mark(sample.image.read()):
                total.update(f"{number}:".encode() + mark)
        return total.hexdigest()

    def stored(self, names: frozenset[str]) -> Iterator[StoredImage]:
        """Samples with these labels, in the order of the files."""
        for sample in self._samples:
            if sample.identity in names:
                where = f"{sample.image.archive}: {sample.image.name}"
                yield self.stored_image(sample.identity, where, sample.image.read, sample.held_out)

    @property
    def _samples(self) -> tuple[_Sample, ...]:
        return self._samples_and_rest[0]

    @cached_property
    def _samples_and_rest(self) -> tuple[tuple[_Sample, ...], Counter[str]]:
        """All samples that are read, and what is not, by reason."""
        left_out: Counter[str] = Counter()
        samples: list[_Sample] = []
        held_out = self._held_out_part()
        for archive in self._archives:
            listed = self._samples_of(archive, left_out)
            part = part_of_file(archive.name) if held_out else None
            if held_out and part not in ("train", held_out):
                left_out["validation image{s}"] += sum(1 for _ in listed)
                continue
            is_held_out = part == held_out if held_out else None
            samples += (_Sample(identity, image, is_held_out) for identity, image in listed)
        return tuple(samples), left_out

    def _held_out_part(self) -> str | None:
        """The part that the names of the files hold out; None unless they are the published split."""
        if not self.config.parts_by_file:
            return None
        parts = [part_of_file(archive.name) for archive in self._archives]
        held_out = held_out_part([part for part in parts if part])
        if held_out is None or None in parts:
            raise DataError("the names of the files do not divide into train and test.", field="parts_by_file")
        return held_out

    def _samples_of(self, archive: Path, left_out: Counter[str]) -> Iterator[tuple[str, _Member]]:
        """Yield label and image of each sample of a file."""
        for name, members in _grouped(archive, left_out).items():
            image = next((member for ending, member in members.items() if f".{ending.lower()}" in SUFFIXES), None)
            if image is None:
                left_out["sample{s} without an image"] += 1
            else:
                yield self._label(members, f"{archive}: {name}"), image

    def _label(self, members: Mapping[str, _Member], where: str) -> str:
        member = members.get(self.config.label)
        if member is None:
            endings = ", ".join(sorted(members))
            raise DataError(f"{where} has no .{self.config.label}. Its endings: {endings}.", field="label")
        data = member.read()
        if self.config.label.rpartition(".")[2] == "json":
            return self._label_in(data, where)
        try:
            return data.decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}.{self.config.label} is no text.", field="label") from error

    def _label_in(self, data: bytes, where: str) -> str:
        try:
            about: Any = json.loads(data)
            return str(about[self.config.label_key])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{where}.{self.config.label} has no {self.config.label_key!r}.", field="label_key"
            ) from error

    @cached_property
    def _archives(self) -> tuple[Path, ...]:
        path = Path(self.config.path)
        archives = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not archives or not archives[0].exists():
            raise DataError(f"no tar file at {path}: give a .tar file or a folder that holds some.", field="path")
        return tuple(archives)


def _grouped(archive: Path, left_out: Counter[str]) -> dict[str, dict[str, _Member]]:
    """Members of each sample of a tar file by their endings: all of the name after the first dot of the file."""
    samples: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(archive, "r:") as opened:
            for info in opened:
                path = PurePosixPath(info.name)
                if not info.isfile():
                    continue
                if any(map(is_hidden, path.parts)):
                    left_out[LEFT_OUT_HIDDEN] += 1
                    continue
                stem, _, ending = path.name.partition(".")
                member = _Member(archive, info.name, info.offset_data, info.size)
                samples.setdefault((path.parent / stem).as_posix(), {})[ending] = member
    except (tarfile.TarError, OSError) as error:
        message = f"{archive} is not a plain tar file: {error}. If it is compressed, uncompress it."
        raise DataError(message, field="path") from error
    return samples
