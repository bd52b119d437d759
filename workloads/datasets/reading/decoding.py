"""Image files as bytes, and encoded images as pixels."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from workloads.core.errors import DataError


def read_file(file: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{file}: missing.") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from error


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode an image (JPEG, PNG, ...) to RGB.

    Raises:
        DataError: if the bytes are not a complete image; it begins with `where` they lie.
    """
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # whatever Pillow's readers raise
        raise DataError(f"{where}: not an image that can be read: {error}") from error


def encode_png(image: Image.Image) -> bytes:
    """Encode an image without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
