"""Handwritten digits that ship inside scikit-learn: 1,797 real images of 8 x 8 pixels."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig, Sample


class DigitsConfig(DatasetConfig):
    """Which digits to use, and their size."""

    kind: Literal["digits"] = "digits"
    channels: Literal[1, 3] = 1
    """1 for grey images, as they are stored, 3 for colour; images are converted."""


@DATASETS.register(DigitsConfig)
class Digits(Dataset):
    """Handwritten digits bundled with scikit-learn; an identity is a digit, '0' to '9'.

    The literature attacks digits 0 to 4 of MNIST with 5 to 9 as public data; these are smaller and need no download.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    @cached_property
    def _text(self) -> bytes:
        """The CSV inside the installed package, read as a file: importing scikit-learn would take seconds."""
        package = importlib.util.find_spec("sklearn")
        if package is None or package.origin is None:
            raise DataError("digits: scikit-learn, which ships them, is not installed: pip install scikit-learn.")
        return gzip.decompress((Path(package.origin).parent / "datasets/data/digits.csv.gz").read_bytes())

    def image_counts(self) -> dict[str, int]:
        """Images of each digit."""
        labels = (line.rpartition(b",")[2] for line in self._text.splitlines())
        return dict(sorted(Counter(str(int(label)) for label in labels).items()))

    def digest(self) -> str:
        """The digest of the table that scikit-learn ships."""
        return hashlib.sha256(self._text).hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Images of 8 x 8 pixels, scaled from 0..16 to 0..255."""
        table = np.loadtxt(io.BytesIO(self._text), delimiter=",")
        for row in table:
            label = str(int(row[-1]))
            if label in names:
                pixels = (row[:-1].reshape(8, 8) * (255 / 16)).round().astype(np.uint8)  # stored as 0 to 16
                yield Sample(label, Image.fromarray(pixels))
