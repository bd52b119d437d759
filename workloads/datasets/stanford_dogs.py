"""Stanford Dogs as downloaded: images, boxes around the dogs, and lists as MATLAB files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS
from workloads.datasets.reading.decoding import read_file
from workloads.datasets.reading.raw import Box, CheckedConfig, Entry, RawDataset, check_counts, draw_parts


class StanfordDogsConfig(CheckedConfig):
    """Where Stanford Dogs lies, and which of its images to use."""

    kind: Literal["stanford_dogs"] = "stanford_dogs"
    cropped: bool = False
    """Keep only the box around the first dog of each image. The literature trains target models on full images and
    evaluation models on boxes."""


@DATASETS.register(StanfordDogsConfig)
class StanfordDogs(RawDataset):
    """Dogs of 120 breeds; an identity is a breed, and nine in ten images are trained on.

    The published training and test lists are joined and split again, as in the literature.

    Source: Khosla et al., "Novel Dataset for Fine-Grained Image Categorization", FGVC at CVPR 2011; split of Struppek
    et al., "Plug & Play Attacks", ICML 2022.
    """

    config: StanfordDogsConfig
    how_to_get = "unpack images.tar, annotation.tar and lists.tar of vision.stanford.edu/aditya86/ImageNetDogs into it."

    def list_entries(self) -> Iterator[Entry]:
        """Images of both lists, each put into training or test by a fixed draw."""
        listed = [row for name in ("train_list.mat", "test_list.mat") for row in _rows(self.root / name)]
        if self.config.check:
            counts = {"images": len(listed), "breeds": len({label for _, label in listed})}
            check_counts(counts, {"images": 20_580, "breeds": 120})
        rows = zip(listed, draw_parts(len(listed)), strict=True)
        for (file, _), part in sorted(rows, key=lambda row: row[0][1]):
            yield Entry(f"Images/{file}", file.partition("/")[0], part)

    def sources(self, entry: Entry) -> tuple[Path, ...]:
        """The image, and its annotation if it is cropped."""
        image = self.root / entry.file
        return (image, self._annotation(entry)) if self.config.cropped else (image,)

    def crop(self, entry: Entry, size: tuple[int, int]) -> Box | None:
        """The first box of the annotation, if `cropped`."""
        return _first_box(self._annotation(entry)) if self.config.cropped else None

    def _annotation(self, entry: Entry) -> Path:
        return self.root / "Annotation" / Path(entry.file).relative_to("Images").with_suffix("")


def _rows(file: Path) -> list[tuple[str, int]]:
    """Read a list: the file below Images and the number of the breed, row by row."""
    from scipy.io import loadmat

    read_file(file)  # raises if it is missing
    try:
        table: dict[str, Any] = loadmat(file, squeeze_me=True, variable_names=("file_list", "labels"))
        return [(str(name), int(label)) for name, label in zip(table["file_list"], table["labels"], strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is not a list of Stanford Dogs: {error}", field="path") from error


def _first_box(file: Path) -> Box:
    """Read the box of the first dog from an annotation."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    try:
        box = ElementTree.fromstring(read_file(file)).find("object/bndbox")
        left, top, right, bottom = (int((box.findtext(side) if box is not None else None) or "") for side in sides)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file}: no box that can be read: {error}") from error
    return left, top, right, bottom
