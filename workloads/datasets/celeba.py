"""CelebA as downloaded, divided into private and public people by one of the two protocols of the literature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from pydantic import PositiveInt

from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS
from workloads.datasets.reading.decoding import read_file
from workloads.datasets.reading.raw import (
    Box,
    CheckedConfig,
    Entry,
    Part,
    RawConfig,
    RawDataset,
    Side,
    both_sides,
    central_box,
    check_counts,
    draw_parts,
    find_path,
)

PUBLISHED_COUNTS = {
    "lr_64": {"people": 1_000, "train": 27_018, "test": 3_009, "public": 30_000},
    "hr_224": {"people": 1_000, "train": 27_034, "test": 3_004, "public": 172_561},
}
"""Numbers of private people and of images in each part, by protocol."""
SIZE = {"lr_64": (178, 218), "hr_224": (224, 224)}
"""Width and height of the images that a protocol starts from."""
WHERE_TO_GET_LISTS = "the lists come with attacks and defenses at 64 pixels, such as github.com/AlanPeng0897/Defend_MI"


class CelebaConfig(CheckedConfig):
    """Where CelebA lies, and which of its people are private."""

    kind: Literal["celeba"] = "celeba"
    protocol: Literal["lr_64", "hr_224"] = "lr_64"
    """How people are divided and images cropped: `lr_64` of attacks at 64 pixels, `hr_224` of attacks at 224."""
    side: Side = "private"
    """Whose images to use: those of private or of public people."""
    private_people: PositiveInt = 1_000
    """Number of people who are private: those with the most images. Only for `hr_224`."""


@DATASETS.register(CelebaConfig)
class Celeba(RawDataset):
    """Faces of 10,177 celebrities; an identity is CelebA's number of a person, the same in both protocols.

    `lr_64`: the lists meta/{trainset,testset,ganset}.txt that come with the attacks on 64-pixel images divide people
    and give class indices; of the aligned images, the central 108 x 108 pixels are kept. `hr_224`: the 1,000 people
    with the most images are private, in that order; nine in ten of their images are trained on; the images have to be
    aligned again, at 224 x 224 (HD-CelebA-Cropper, face factor 0.65). The two have 429 private people in common: never
    mix them.

    Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015; the lists of Chen et al.,
    "Knowledge-Enriched Distributional Model Inversion Attacks", ICCV 2021; the rule of Struppek et al., "Plug & Play
    Attacks", ICML 2022.
    """

    config: CelebaConfig
    subfolders = ("celeba",)

    def list_entries(self) -> list[Entry]:
        """Images of the protocol's lists, checked for people on both sides and against published counts."""
        private, public = self._listed() if self.config.protocol == "lr_64" else self._most_frequent()
        people = {entry.identity for entry in private}
        both = people & {entry.identity for entry in public}
        if both:
            raise DataError(
                f"the lists have {len(both)} people on both sides, {min(both)!r} for example.", field="path"
            )
        if self.config.check:
            parts = Counter(entry.part for entry in private)
            counts = {"people": len(people), "train": parts["train"], "test": parts["test"], "public": len(public)}
            check_counts(counts, PUBLISHED_COUNTS[self.config.protocol])
        return private if self.config.side == "private" else public

    def sources(self, entry: Entry) -> tuple[Path, ...]:
        """The JPEG, or the PNG that some copies hold in its place."""
        file = self.root / entry.file
        png = file.with_suffix(".png")
        return (png if not file.exists() and png.exists() else file,)

    def crop(self, entry: Entry, size: tuple[int, int]) -> Box | None:
        """The central 108 pixels for `lr_64`; for `hr_224` the whole aligned image."""
        expected = SIZE[self.config.protocol]
        if self.config.check and size != expected:
            rule = f"{self.config.protocol} starts from {expected[0]} x {expected[1]}"
            raise DataError(
                f"{entry.file}: {size[0]} x {size[1]} pixels, but {rule}: align it so, or set check: false."
            )
        return central_box(entry, size, 108) if self.config.protocol == "lr_64" else None

    def fetch(self) -> None:
        """Download the files through torchvision."""
        from torchvision.datasets import CelebA

        CelebA(self.config.path, split="all", download=True)

    def sides(self) -> Mapping[Side, RawConfig]:
        """The private and the public side."""
        return both_sides(self.config)

    def _listed(self) -> tuple[list[Entry], list[Entry]]:
        """Private and public images of the published lists, class by class."""
        labelled: list[tuple[int, Entry]] = []
        for part in get_args(Part):
            labelled += [(int(row[1]), self._entry(row[0], part)) for row in self._rows(self._list(f"{part}set"), 2)]
        labelled.sort(key=lambda pair: pair[0])
        private = [entry for _, entry in labelled]
        classes = {(label, entry.identity) for label, entry in labelled}
        if not len(classes) == len({label for label, _ in classes}) == len({person for _, person in classes}):
            raise DataError(
                "meta/trainset.txt and meta/testset.txt give a person two classes, or a class two people.",
                field="path",
            )
        public = [self._entry(row[0]) for row in self._rows(self._list("ganset"), 1)]
        return private, sorted(public, key=lambda entry: int(entry.identity))

    def _most_frequent(self) -> tuple[list[Entry], list[Entry]]:
        """Private and public images by number of images per person, class by class; ties in the order first seen."""
        ranked = [person for person, _ in Counter(self._people.values()).most_common()]
        rank = {person: position for position, person in enumerate(ranked)}
        chosen = [stem for stem, person in self._people.items() if rank[person] < self.config.private_people]
        private = [self._entry(stem, part) for stem, part in zip(chosen, draw_parts(len(chosen)), strict=True)]
        public = [self._entry(stem) for stem in self._people.keys() - set(chosen)]
        private.sort(key=lambda entry: rank[entry.identity])
        return private, sorted(public, key=lambda entry: (int(entry.identity), entry.file))

    @cached_property
    def _people(self) -> dict[str, str]:
        """Number of the person on each image, by name of its file without the suffix."""
        file = find_path(self.root, "identity_CelebA.txt", "Anno/identity_CelebA.txt")
        return {_stem(row[0]): row[1] for row in self._rows(file, 2)}

    @cached_property
    def _folder(self) -> str:
        return find_path(self.root, "img_align_celeba", "Img/img_align_celeba", "Img")

    def _list(self, name: str) -> str:
        file = f"meta/{name}.txt"
        if not (self.root / file).is_file():
            raise DataError(f"no {self.root / file}: {WHERE_TO_GET_LISTS}.", field="path")
        return file

    def _entry(self, name: str, part: Part | None = None) -> Entry:
        person = self._people.get(_stem(name))
        if person is None:
            raise DataError(f"a list names {name}, but identity_CelebA.txt does not say who is on it.", field="path")
        return Entry(f"{self._folder}/{_stem(name)}.jpg", person, part)

    def _rows(self, file: str, columns: int) -> Iterator[list[str]]:
        """Yield the first columns of a table without a header: a file name, then numbers."""
        text = read_file(self.root / file).decode(errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            row = line.split()[:columns]
            if len(row) < columns or not all(word.isdigit() for word in row[1:]):
                raise DataError(
                    f"{self.root / file}:{number}: not a file name and a number: {line[:60]!r}.", field="path"
                )
            yield row


def _stem(name: str) -> str:
    return name.partition(".")[0]
