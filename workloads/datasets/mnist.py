"""MNIST as downloaded: handwritten digits, in idx files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.idx import Content, IdxDataset
from workloads.datasets.reading.raw import Part, RawConfig, Side


class MnistConfig(RawConfig):
    """Where MNIST lies, and which of its digits to use."""

    kind: Literal["mnist"] = "mnist"
    channels: Literal[1, 3] = 1
    """1 for grey images, as they are stored, 3 for colour; images are converted."""


@DATASETS.register(MnistConfig)
class Mnist(IdxDataset):
    """Handwritten digits; an identity is a digit, '0' to '9', and the split is the published one.

    The literature attacks 0 to 4 with 5 to 9 as public data: name them in `identities`.

    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
    """

    config: MnistConfig
    subfolders = ("MNIST/raw",)

    def file_name(self, part: Part, content: Content) -> str:
        """Name that LeCun gives the file."""
        return f"{'train' if part == 'train' else 't10k'}-{content}-ubyte"

    def character(self, label: int) -> str:
        """The digit."""
        return str(label)

    def fetch(self) -> None:
        """Download the files through torchvision."""
        from torchvision.datasets import MNIST

        MNIST(self.config.path, download=True)

    def sides(self) -> Mapping[Side, RawConfig]:
        """The configured digits are private, 0 to 4 if none are; all others are public."""
        private = self.config.identities or tuple("01234")
        public = tuple(digit for digit in "0123456789" if digit not in private)
        sides: dict[Side, tuple[str, ...]] = {"private": private, "public": public}
        return {side: self.config.model_copy(update={"identities": digits}) for side, digits in sides.items() if digits}
