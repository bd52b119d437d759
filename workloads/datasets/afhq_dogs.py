"""The dogs of Animal Faces-HQ as downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawConfig, RawDataset, Side, images_in, located


class AfhqDogsConfig(CroppedConfig):
    kind: Literal["afhq_dogs"] = "afhq_dogs"


@DATASETS.register(AfhqDogsConfig)
class AfhqDogs(RawDataset):
    """Faces of dogs at 512 pixels, public data where breeds are private; all one class, since no breed is named.

    Source: Choi et al., "StarGAN v2", CVPR 2020.
    """

    config: AfhqDogsConfig
    nested = ("afhq", "afhq_v2")
    obtained = "get afhq or afhq_v2 with the script of github.com/clovaai/stargan-v2."

    def list_entries(self) -> Iterator[Entry]:
        for file in images_in(self.root, located(self.root, "train/dog")):
            yield Entry(file, self.config.kind, "train")
        for file in images_in(self.root, located(self.root, "test/dog", "val/dog")):
            yield Entry(file, self.config.kind, "test")

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        return {"public": config}
