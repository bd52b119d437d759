"""MetFaces as downloaded: aligned faces of works of art."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import PositiveInt

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import CroppedConfig, Entry, RawConfig, RawDataset, Side, images_in, located


class MetfacesConfig(CroppedConfig):
    kind: Literal["metfaces"] = "metfaces"
    crop: PositiveInt | None = 800
    """Side in pixels of the central square that is kept: attacks at 224 pixels look at 800 of 1024."""


@DATASETS.register(MetfacesConfig)
class Metfaces(RawDataset):
    """Painted and sculpted faces at 1024 pixels, public data that are far from photographs; all one class.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020; crop of Struppek
    et al., "Plug & Play Attacks", ICML 2022.
    """

    config: MetfacesConfig
    obtained = "get its folder images with the links of github.com/NVlabs/metfaces-dataset."

    def list_entries(self) -> Iterator[Entry]:
        for file in images_in(self.root, located(self.root, "images")):
            yield Entry(file, self.config.kind)

    @classmethod
    def sides(cls, config: RawConfig) -> Mapping[Side, RawConfig]:
        return {"public": config}
