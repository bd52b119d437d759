"""Labeled Faces in the Wild as downloaded: a folder of each person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import (
    CheckedConfig,
    CroppedConfig,
    Entry,
    RawConfig,
    RawDataset,
    Side,
    expect,
    people_in,
)


class LfwConfig(CheckedConfig, CroppedConfig):
    kind: Literal["lfw"] = "lfw"
    side: Side = "private"
    private_images: PositiveInt = 20
    """People with at least so many images are private, all others are public."""


@DATASETS.register(LfwConfig)
class Lfw(RawDataset):
    """Faces of 5,749 people in the news, any of whose versions: original, funneled, deep funneled.

    Its own lists divide people and not images, so that no split comes with it.

    Source: Huang et al., "Labeled Faces in the Wild", technical report 07-49, Amherst 2007.
    """

    config: LfwConfig
    nested = ("lfw-py/lfw_funneled", "lfw-py/lfw-deepfunneled", "lfw-py/lfw", "lfw_funneled", "lfw-deepfunneled", "lfw")
    obtained = "its first host is gone: unpack a mirror's lfw, lfw_funneled or lfw-deepfunneled into it."

    def list_entries(self) -> Iterator[Entry]:
        people = people_in(self.root)
        if self.config.check:
            found = {"images": sum(map(len, people.values())), "people": len(people)}
            expect(found, {"images": 13_233, "people": 5_749})
        for name, files in people.items():
            if (len(files) >= self.config.private_images) == (self.config.side == "private"):
                yield from (Entry(file, name) for file in files)

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        public = config.model_copy(update={"side": "public", "identities": None})
        return {"private": config.model_copy(update={"side": "private"}), "public": public}
