"""Labeled Faces in the Wild as downloaded: one folder per person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.preparation.archives import Archive
from workloads.datasets.reading.raw import (
    CheckedConfig,
    CroppedConfig,
    Entry,
    RawConfig,
    RawDataset,
    Side,
    both_sides,
    check_counts,
    list_people,
)

FUNNELED = Archive(
    url="https://ndownloader.figshare.com/files/5976015",
    file="lfw-funneled.tgz",
    sha256="b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
)
"""The funneled version, 233 MB, at the address and with the digest of scikit-learn's `fetch_lfw_people`."""


class LfwConfig(CheckedConfig, CroppedConfig):
    """Where LFW lies, and which of its people are private."""

    kind: Literal["lfw"] = "lfw"
    side: Side = "private"
    """Whose images to use: those of private or of public people."""
    private_images: PositiveInt = 20
    """People with at least N images are private, all others are public."""


@DATASETS.register(LfwConfig)
class Lfw(RawDataset):
    """Faces of 5,749 people in the news, in any version: original, funneled or deep funneled.

    Its published lists divide people and not images, so it has no published split.

    Source: Huang et al., "Labeled Faces in the Wild", technical report 07-49, Amherst 2007.
    """

    config: LfwConfig
    subfolders = (
        "lfw-py/lfw_funneled",
        "lfw-py/lfw-deepfunneled",
        "lfw-py/lfw",
        "lfw_funneled",
        "lfw-deepfunneled",
        "lfw",
    )

    def fetch(self) -> None:
        """Download the funneled version, unless any version is there: the host that torchvision asks is gone."""
        folder = Path(self.config.path)
        if not any((folder / name).is_dir() for name in self.subfolders):
            FUNNELED.unpack_into(folder)

    def list_entries(self) -> Iterator[Entry]:
        """People with at least `private_images` images on the private side, the others on the public one."""
        people = list_people(self.root)
        if self.config.check:
            counts = {"images": sum(map(len, people.values())), "people": len(people)}
            check_counts(counts, {"images": 13_233, "people": 5_749})
        for name, files in people.items():
            if (len(files) >= self.config.private_images) == (self.config.side == "private"):
                yield from (Entry(file, name) for file in files)

    def sides(self) -> Mapping[Side, RawConfig]:
        """The private and the public side."""
        return both_sides(self.config)
