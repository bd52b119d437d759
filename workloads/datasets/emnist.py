"""EMNIST as downloaded: handwritten letters and digits, in idx files."""

from __future__ import annotations

import string
from typing import Literal

import numpy as np
from PIL import Image

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.idx import Content, IdxDataset
from workloads.datasets.reading.raw import Entry, Part, RawConfig

CHARACTERS = {
    "letters": f" {string.ascii_lowercase}",  # counted from 1
    "balanced": f"{string.digits}{string.ascii_uppercase}abdefghnqrt",  # other small letters count as their capitals
}
"""Characters in the order of their labels, by variant."""


class EmnistConfig(RawConfig):
    """Where EMNIST lies, and which of its characters to use."""

    kind: Literal["emnist"] = "emnist"
    channels: Literal[1, 3] = 1
    """1 for grey images, as they are stored, 3 for colour; images are converted."""
    variant: Literal["letters", "balanced"] = "letters"
    """`letters`: 26 classes, capital and small together. `balanced`: 47 classes, digits, capitals, and small letters
    that do not look like their capital."""


@DATASETS.register(EmnistConfig)
class Emnist(IdxDataset):
    """Handwritten letters, public data beside MNIST's digits; an identity is a character. Images are turned upright.

    Source: Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", IJCNN 2017.
    """

    config: EmnistConfig
    side = "public"
    subfolders = ("EMNIST/raw", "gzip")

    def file_name(self, part: Part, content: Content) -> str:
        """Name that NIST gives the file of a variant."""
        return f"emnist-{self.config.variant}-{part}-{content}-ubyte"

    def character(self, label: int) -> str:
        """The character that a label stands for."""
        return CHARACTERS[self.config.variant][label]

    def image(self, entry: Entry) -> Image.Image:
        """The image, which the files store column by column."""
        return Image.fromarray(np.asarray(super().image(entry)).T)  # stored column by column

    def fetch(self) -> None:
        """Download the files through torchvision."""
        from torchvision.datasets import EMNIST

        EMNIST(self.config.path, split=self.config.variant, download=True)
