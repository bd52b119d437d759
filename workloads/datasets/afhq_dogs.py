"""The dogs of Animal Faces-HQ, as downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawDataset, find_path, list_images


class AfhqDogsConfig(CroppedConfig):
    """Where the dogs of Animal Faces-HQ lie, and which images to use."""

    kind: Literal["afhq_dogs"] = "afhq_dogs"


@DATASETS.register(AfhqDogsConfig)
class AfhqDogs(RawDataset):
    """Faces of dogs at 512 pixels, public data when breeds are private; one class, since breeds are not labelled.

    Source: Choi et al., "StarGAN v2", CVPR 2020.
    """

    config: AfhqDogsConfig
    side = "public"
    subfolders = ("afhq", "afhq_v2")
    how_to_get = "get afhq or afhq_v2 with the script of github.com/clovaai/stargan-v2."

    def list_entries(self) -> Iterator[Entry]:
        """Images of `train/dog`, then of `test/dog` or `val/dog`, all of one identity."""
        for file in list_images(self.root, find_path(self.root, "train/dog")):
            yield Entry(file, self.config.kind, "train")
        for file in list_images(self.root, find_path(self.root, "test/dog", "val/dog")):
            yield Entry(file, self.config.kind, "test")
