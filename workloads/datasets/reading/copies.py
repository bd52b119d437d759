"""Which images of one set are copies of another's, by their pixels or by their look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workloads.datasets.reading.census import LOOK_BITS, DecodedImage

BANDS = 16
"""Parts that a look is cut into; looks that differ in fewer bits than there are parts agree in one of them."""
MOST_BITS = 15
"""Bits in which the looks of near copies may differ; fewer than `BANDS`. Scaling by 3/4 and JPEG of quality 70 change
5 to 15 bits of faces in LFW, of which no two people differ in so few."""


class Copy(NamedTuple):
    """An image and the first one that it is a copy of."""

    image: DecodedImage
    original: DecodedImage


def exact_copies(images: Iterable[DecodedImage], originals: Iterable[DecodedImage]) -> list[Copy]:
    """Those images whose pixels are those of an original, each with the first such."""
    by_pixels: dict[str, DecodedImage] = {}
    for original in originals:
        by_pixels.setdefault(original.pixels, original)
    return [Copy(image, by_pixels[image.pixels]) for image in images if image.pixels in by_pixels]


def near_copies(images: Iterable[DecodedImage], originals: Iterable[DecodedImage]) -> list[Copy]:
    """Those images of other pixels that look like an original: their looks differ in `MOST_BITS` bits at most."""
    by_band: defaultdict[tuple[int, int], list[DecodedImage]] = defaultdict(list)
    for original in originals:
        for band in _bands(original.look):
            by_band[band].append(original)
    copies = []
    for image in images:
        candidates = [original for band in _bands(image.look) for original in by_band.get(band, ())]
        alike = _first_alike(image, candidates)
        if alike is not None:
            copies.append(Copy(image, alike))
    return copies


def _bands(look: int | None) -> Sequence[tuple[int, int]]:
    """The parts of a look with their positions; none for an image that has no look."""
    width = LOOK_BITS // BANDS
    return [] if look is None else [(band, (look >> (band * width)) & ((1 << width) - 1)) for band in range(BANDS)]


def _first_alike(image: DecodedImage, candidates: Iterable[DecodedImage]) -> DecodedImage | None:
    for original in candidates:
        if image.look is None or original.look is None or image.pixels == original.pixels:
            continue
        if (image.look ^ original.look).bit_count() <= MOST_BITS:
            return original
    return None
