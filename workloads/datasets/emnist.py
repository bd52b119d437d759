"""EMNIST as downloaded: handwritten letters and digits in idx files."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.idx import IdxDataset
from workloads.datasets.reading.raw import Entry, Part, RawConfig, Side

CHARACTERS = {
    "letters": f" {string.ascii_lowercase}",  # counted from 1
    "balanced": f"{string.digits}{string.ascii_uppercase}abdefghnqrt",  # capitals stand for like small letters
}


class EmnistConfig(RawConfig):
    kind: Literal["emnist"] = "emnist"
    channels: Literal[1, 3] = 1
    variant: Literal["letters", "balanced"] = "letters"
    """26 letters, capitals among the small ones, or 47 characters: digits, capitals, small letters unlike theirs."""


@DATASETS.register(EmnistConfig)
class Emnist(IdxDataset):
    """Handwritten letters, public data beside MNIST's digits; an identity is a character. Images are turned upright.

    Source: Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", IJCNN 2017.
    """

    config: EmnistConfig
    nested = ("EMNIST/raw", "gzip")

    def file_of(self, part: Part, what: str) -> str:
        return f"emnist-{self.config.variant}-{part}-{what}-ubyte"

    def character(self, label: int) -> str:
        return CHARACTERS[self.config.variant][label]

    def image(self, entry: Entry) -> Image.Image:
        return Image.fromarray(np.asarray(super().image(entry)).T)  # they are stored column by column

    def fetch(self) -> None:
        from torchvision.datasets import EMNIST

        EMNIST(self.config.path, split=self.config.variant, download=True)

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        return {"public": config}
