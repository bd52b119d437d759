"""FaceScrub as downloaded: actors and actresses, a folder each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from workloads.datasets.base import DATASETS
from workloads.datasets.reading.raw import (
    CheckedConfig,
    CroppedConfig,
    Entry,
    RawDataset,
    drawn_parts,
    expect,
    located,
    people_in,
)


class FacescrubConfig(CheckedConfig, CroppedConfig):
    kind: Literal["facescrub"] = "facescrub"
    images: Literal["faces", "images"] = "faces"
    """Faces cut out by the publisher, which the literature uses, or whole images. Of 64-pixel faces it keeps the
    central 54: `crop: 54`."""


@DATASETS.register(FacescrubConfig)
class Facescrub(RawDataset):
    """Faces of 530 film stars, actors before actresses; nine in ten images are trained on.

    The images lie where their finders left them on the web, and many are gone: the split is drawn over those that are
    there, so two downloads differ. A prepared set is what others can share.

    Source: Ng and Winkler, "A data-driven approach to cleaning large face datasets", ICIP 2014; split of Struppek et
    al., "Plug & Play Attacks", ICML 2022.
    """

    config: FacescrubConfig
    obtained = "ask its authors for the list of addresses, and lay images out as {actors,actresses}/faces/<Name>/."

    def list_entries(self) -> Iterator[Entry]:
        listed = [(name, file) for name, files in self._people().items() for file in files]
        for (name, file), part in zip(listed, drawn_parts(len(listed)), strict=True):
            yield Entry(file, name, part)

    def _people(self) -> dict[str, list[str]]:
        kind = self.config.images
        groups = [(f"actors/{kind}", f"actor_{kind}"), (f"actresses/{kind}", f"actress_{kind}")]
        actors, actresses = (people_in(self.root, located(self.root, *group)) for group in groups)
        if self.config.check:
            expect({"people": len(actors) + len(actresses)}, {"people": 530})
        return actors | actresses
