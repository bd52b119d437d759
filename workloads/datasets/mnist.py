"""MNIST as downloaded: handwritten digits in idx files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.idx import IdxDataset
from workloads.datasets.reading.raw import Part, RawConfig, Side


class MnistConfig(RawConfig):
    kind: Literal["mnist"] = "mnist"
    channels: Literal[1, 3] = 1


@DATASETS.register(MnistConfig)
class Mnist(IdxDataset):
    """Handwritten digits; an identity is a digit, '0' to '9', and the split is the published one.

    The literature attacks 0 to 4 with 5 to 9 as public data: name them in `identities`.

    Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
    """

    config: MnistConfig
    nested = ("MNIST/raw",)

    def file_of(self, part: Part, what: str) -> str:
        return f"{'train' if part == 'train' else 't10k'}-{what}-ubyte"

    def character(self, label: int) -> str:
        return str(label)

    def fetch(self) -> None:
        from torchvision.datasets import MNIST

        MNIST(self.config.path, download=True)

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        private = config.identities or tuple("01234")
        public = tuple(digit for digit in "0123456789" if digit not in private)
        chosen: dict[Side, tuple[str, ...]] = {"private": private, "public": public}
        return {side: config.model_copy(update={"identities": digits}) for side, digits in chosen.items() if digits}
