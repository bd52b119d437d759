"""MetFaces as downloaded: aligned faces from works of art."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawDataset, find_path, list_images


class MetfacesConfig(CroppedConfig):
    """Where MetFaces lies, and which of its images to use."""

    kind: Literal["metfaces"] = "metfaces"
    crop: PositiveInt | None = 800
    """Side in pixels of the central square that is kept of each image; attacks at 224 pixels use 800 of 1024. If null,
    the full image is kept."""


@DATASETS.register(MetfacesConfig)
class Metfaces(RawDataset):
    """Painted and sculpted faces at 1024 pixels, public data that differ much from photographs; one class.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020; crop of Struppek
    et al., "Plug & Play Attacks", ICML 2022.
    """

    config: MetfacesConfig
    side = "public"
    how_to_get = "get its folder images with the links of github.com/NVlabs/metfaces-dataset."

    def list_entries(self) -> Iterator[Entry]:
        """All images, of one identity."""
        for file in list_images(self.root, find_path(self.root, "images")):
            yield Entry(file, self.config.kind)
