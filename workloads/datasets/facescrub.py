"""FaceScrub as downloaded: one folder per actor or actress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import (
    CheckedConfig,
    CroppedConfig,
    Entry,
    RawDataset,
    check_counts,
    draw_parts,
    find_path,
    list_people,
)


class FacescrubConfig(CheckedConfig, CroppedConfig):
    """Where FaceScrub lies, and which of its images to use."""

    kind: Literal["facescrub"] = "facescrub"
    images: Literal["faces", "images"] = "faces"
    """`faces` that the publisher cut out, which the literature uses, or full `images`. Of faces at 64 pixels, the
    literature keeps the central 54: set `crop: 54`."""


@DATASETS.register(FacescrubConfig)
class Facescrub(RawDataset):
    """Faces of 530 film stars, actors before actresses; nine in ten images are trained on.

    The publisher gives addresses on the web, and many images are gone. The split is drawn over those that were
    downloaded, so two downloads differ; to compare with others, share a prepared set.

    Source: Ng and Winkler, "A data-driven approach to cleaning large face datasets", ICIP 2014; split of Struppek et
    al., "Plug & Play Attacks", ICML 2022.
    """

    config: FacescrubConfig
    how_to_get = "ask its authors for the list of addresses, and lay images out as {actors,actresses}/faces/<Name>/."

    def list_entries(self) -> Iterator[Entry]:
        """Images of actors and actresses, each put into training or test by a fixed draw."""
        listed = [(name, file) for name, files in self._people().items() for file in files]
        for (name, file), part in zip(listed, draw_parts(len(listed)), strict=True):
            yield Entry(file, name, part)

    def _people(self) -> dict[str, list[str]]:
        kind = self.config.images
        groups = [(f"actors/{kind}", f"actor_{kind}"), (f"actresses/{kind}", f"actress_{kind}")]
        actors, actresses = (list_people(self.root, find_path(self.root, *group)) for group in groups)
        if self.config.check:
            check_counts({"people": len(actors) + len(actresses)}, {"people": 530})
        return actors | actresses
