"""Image files as bytes, and any image that Pillow reads as the 8-bit RGB that the project uses."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from workloads.core.errors import DataError

UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, RuntimeError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's readers raise for bytes that are not a complete image."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that stands for a file which Git LFS has not fetched."""
SIGNS_OF_A_TURN = (b"Exif", b"eXIf", b"Raw profile type exif", b"tiff:Orientation")
"""Bytes without which no format says that an image is to be turned."""
UPRIGHT = 1
CONVERSION = b"converted 1"
"""Version of `to_rgb`, which stands in a digest where it gives other pixels than Pillow's plain conversion to RGB."""


@dataclass(frozen=True)
class Conversion:
    """How images that are not 8-bit RGB become it."""

    background: str = "white"
    """Colour under what is transparent, by a name or code that Pillow knows."""
    value_range: tuple[float, float] | None = None
    """What is black and what is white in images of 32-bit numbers; None refuses these."""


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


def decode_image(data: bytes, where: str, conversion: Conversion = Conversion()) -> Image.Image:
    """Decode an image (JPEG, PNG, ...) to RGB: upright, 8 bits a channel, what is transparent laid over a colour.

    Of an animated image it is the first frame.

    Raises:
        DataError: if the bytes are not a complete image, or one that needs a `value_range`; it begins with `where`
            they lie.
    """
    try:
        return to_rgb(Image.open(io.BytesIO(data)), conversion)
    except DataError as error:
        raise DataError(f"{where}: {error.reason}") from error
    except UNREADABLE as error:
        raise DataError(f"{where}: not an image that can be read: {_reason(data, error)}") from error


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "it is empty"
    if data.startswith(LFS_POINTER):
        return "it is a Git LFS pointer: run `git lfs pull`"
    if isinstance(error, UnidentifiedImageError):  # its message holds the address of an object
        return "it is in no format that Pillow reads"
    return str(error) or type(error).__name__


def to_rgb(image: Image.Image, conversion: Conversion = Conversion()) -> Image.Image:
    """Any image as RGB: turned as its EXIF says, of 8 bits, laid over the background.

    Grey of 16 bits is scaled, and rounded down. 8-bit images without transparency keep every value.

    Raises:
        DataError: if it holds 32-bit numbers and no range is stated, or numbers that are not finite.
    """
    image.load()  # before its EXIF is asked for, which PNG may store last; TIFF turns its images while they load
    if orientation(image) != UPRIGHT:
        image = ImageOps.exif_transpose(image)
    return _opaque(_eight_bit(image, conversion), conversion)


def orientation(image: Image.Image) -> int:
    """How an image is to be turned, 1 to 8 as in EXIF; a damaged block of EXIF says nothing."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except UNREADABLE:
        return UPRIGHT
    return value if value in range(2, 9) else UPRIGHT


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits, which Pillow's conversion would clip."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _eight_bit(image: Image.Image, conversion: Conversion) -> Image.Image:
    if not is_deep(image):
        return image
    values = np.asarray(image)
    key = image.info.get("transparency")
    is_16_bit = image.mode.startswith("I;16") or image.format == "PNG"  # older Pillow reads 16-bit PNG as mode I
    grey = Image.fromarray((values // 257 if is_16_bit else _scaled(values, conversion)).astype(np.uint8))
    if isinstance(key, int):  # one value of grey is transparent
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _scaled(values: np.ndarray, conversion: Conversion) -> np.ndarray:
    """Numbers of the stated range as 0 to 255; those outside are clipped."""
    if conversion.value_range is None:
        raise DataError("holds 32-bit numbers, whose range no file says: set value_range, such as [0.0, 1.0].")
    if not np.isfinite(values).all():
        raise DataError("holds numbers that are not finite.")
    low, high = conversion.value_range
    scaled: np.ndarray = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1) * 255
    return scaled


def _opaque(image: Image.Image, conversion: Conversion) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    background = Image.new("RGBA", layer.size, conversion.background)
    return Image.alpha_composite(background, layer).convert("RGB")


def image_digest(data: bytes) -> bytes:
    """SHA-256 of an encoded image, followed by the version of the conversion where that matters to its pixels.

    So results on images that plain conversion read rightly keep their keys, and results on others are not reused.
    """
    return hashlib.sha256(data).digest() + conversion_mark(data)


def conversion_mark(data: bytes) -> bytes:
    """The version of the conversion if it gives an encoded image other pixels than plain conversion; else empty."""
    if _is_plain(data):
        return b""
    try:
        image = Image.open(io.BytesIO(data))
        if not _may_differ(image, data):
            return b""
        plain = Image.open(io.BytesIO(data)).convert("RGB")
        return CONVERSION if to_rgb(image).tobytes() != plain.tobytes() else b""
    except (DataError, *UNREADABLE):
        return b""  # such an image is not read at all


def _is_plain(data: bytes) -> bool:
    """Whether the first bytes of a JPEG or PNG say that it is upright, of 8 bits and opaque, as most images are."""
    if _may_be_turned(data):
        return False
    is_opaque_png = data[24:26] in (b"\x08\0", b"\x08\x02") and b"tRNS" not in data  # 8 bits of grey or of RGB
    return data.startswith(b"\xff\xd8\xff") or (data.startswith(b"\x89PNG") and is_opaque_png)


def _may_differ(image: Image.Image, data: bytes) -> bool:
    """Whether the header of an image says that plain conversion may be wrong."""
    if image.has_transparency_data or is_deep(image):
        return True
    return _may_be_turned(data) and orientation(image) != UPRIGHT


def _may_be_turned(data: bytes) -> bool:
    return any(sign in data for sign in SIGNS_OF_A_TURN)


def encode_png(image: Image.Image) -> bytes:
    """Encode an image without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
