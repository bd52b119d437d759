"""Image files as bytes, and encoded images as pixels."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from workloads.core.errors import DataError


def stored(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{file}: missing.") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from error


def decode(data: bytes, where: str) -> Image.Image:
    """An encoded image (JPEG, PNG, ...) as RGB.

    Raises:
        DataError: naming `where` the bytes lie, if they are not a whole image.
    """
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # whatever Pillow's readers raise
        raise DataError(f"{where}: not an image that can be read: {error}") from error


def as_png(image: Image.Image) -> bytes:
    """An image encoded without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
