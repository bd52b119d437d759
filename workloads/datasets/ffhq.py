"""Flickr-Faces-HQ as downloaded: its thumbnails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawConfig, RawDataset, Side


class FfhqConfig(CroppedConfig):
    kind: Literal["ffhq"] = "ffhq"
    crop: PositiveInt | None = 88
    """Side in pixels of the central square that is kept: 88 of 128 show faces as large as CelebA's 108 do."""
    images: int = Field(default=70_000, ge=1, le=70_000)
    """The first so many."""


@DATASETS.register(FfhqConfig)
class Ffhq(RawDataset):
    """Faces of Flickr at 128 pixels, public data of most studies of people; all one class, since nobody is named.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019; crop of Nguyen et al.,
    "Re-thinking Model Inversion Attacks Against Deep Neural Networks", CVPR 2023.
    """

    config: FfhqConfig
    obtained = "get thumbnails128x128 with the script of github.com/NVlabs/ffhq-dataset."

    def list_entries(self) -> Iterator[Entry]:
        for number in range(self.config.images):
            yield Entry(f"thumbnails128x128/{number // 1000 * 1000:05d}/{number:05d}.png", self.config.kind)

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        return {"public": config}
