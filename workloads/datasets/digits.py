"""Handwritten digits that ship inside scikit-learn: 1,797 real images of 8 x 8 pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image

from workloads.datasets.base import DATASETS, Dataset, DatasetConfig


class DigitsConfig(DatasetConfig):
    kind: Literal["digits"] = "digits"
    channels: Literal[1, 3] = 1


@DATASETS.register(DigitsConfig)
class Digits(Dataset):
    """Handwritten digits bundled with scikit-learn; an identity is a digit, '0' to '9'.

    The literature attacks digits 0 to 4 of MNIST with 5 to 9 as public data; these are a smaller stand-in that
    needs no download.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    @cached_property
    def _bunch(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits  # heavy, and only this data set needs it

        bunch = load_digits()
        return bunch.images, bunch.target

    def available(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def digest(self) -> str:
        images, labels = self._bunch
        return hashlib.sha256(images.astype("<f8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[tuple[str, Image.Image]]:
        for pixels, label in zip(*self._bunch, strict=True):
            if str(label) in names:
                yield str(label), Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8))
