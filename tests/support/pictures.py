"""Encoded pictures for tests of readers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file of this format."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int, size: int = 8) -> np.ndarray:
    """Random colours. Shape: (size, size, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def with_orientation(orientation: int) -> Image.Exif:
    """EXIF that says how an image is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
