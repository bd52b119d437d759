"""Thumbnails of Flickr-Faces-HQ, as downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawDataset


class FfhqConfig(CroppedConfig):
    """Where FFHQ lies, and which of its images to use."""

    kind: Literal["ffhq"] = "ffhq"
    crop: PositiveInt | None = 88
    """Side in pixels of the central square that is kept of each image. With 88 of 128, faces are as large as in the 108
    pixels kept of CelebA. If null, the full image is kept."""
    images: int = Field(default=70_000, ge=1, le=70_000)
    """Use only the first N images."""


@DATASETS.register(FfhqConfig)
class Ffhq(RawDataset):
    """Faces of Flickr at 128 pixels, public data of most studies of people; one class, since people are not named.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", CVPR 2019; crop of Nguyen et al.,
    "Re-thinking Model Inversion Attacks Against Deep Neural Networks", CVPR 2023.
    """

    config: FfhqConfig
    side = "public"
    how_to_get = "get thumbnails128x128 with the script of github.com/NVlabs/ffhq-dataset."

    def list_entries(self) -> Iterator[Entry]:
        """The first `images` thumbnails, all of one identity."""
        for number in range(self.config.images):
            yield Entry(f"thumbnails128x128/{number // 1000 * 1000:05d}/{number:05d}.png", self.config.kind)
