"""Any image that Pillow reads as 8-bit RGB: turned, scaled, laid over a colour, or refused in one line."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import encoded, noise, with_orientation
from workloads.core.errors import DataError
from workloads.datasets.reading.decoding import CONVERSION, Conversion, decode_image, image_digest

# What each orientation does to rows and columns, as EXIF 2.3 defines it: where row 0 and column 0 are seen.
TURNED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
WIDE = noise(0)[:4]
RED, CLEAR_BLUE, HALF_BLACK = (255, 0, 0, 255), (0, 0, 255, 0), (0, 0, 0, 128)


def pixels(data: bytes, **settings: Any) -> list[list[int]]:
    """The pixels of the first row."""
    return decoded(data, **settings)[0].tolist()


def decoded(data: bytes, **settings: Any) -> np.ndarray:
    return np.asarray(decode_image(data, "here", Conversion(**settings)))


@pytest.mark.parametrize("orientation", TURNED)
def test_a_photograph_is_turned_as_its_exif_says(orientation: int) -> None:
    data = encoded(WIDE, exif=with_orientation(orientation))
    assert decoded(data).tolist() == TURNED[orientation](WIDE).tolist()


def test_a_jpeg_is_turned_too() -> None:
    assert decode_image(encoded(WIDE, "JPEG", exif=with_orientation(6)), "").size == (4, 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_says_nothing() -> None:
    data = encoded(WIDE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data, "").size == (8, 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled(kind: str) -> None:
    grey = encoded(np.array([[0, 1000, 40000, 65535]], np.uint16), kind)
    assert [pixel[0] for pixel in pixels(grey)] == [0, 3, 155, 255]  # 255 / 65535 of each, rounded down


def test_one_transparent_value_of_16_bit_grey_is_background() -> None:
    grey = Image.fromarray(np.array([[1000, 40000]], np.uint16))
    assert pixels(encoded(grey, transparency=1000)) == [[255, 255, 255], [155, 155, 155]]


def test_numbers_without_a_range_are_refused() -> None:
    with pytest.raises(DataError, match=r"^here: holds 32-bit numbers, whose range no file says: set value_range"):
        decoded(encoded(np.zeros((1, 1), np.float32), "TIFF"))


def test_numbers_of_a_stated_range_are_scaled_and_clipped() -> None:
    numbers = encoded(np.array([[-2.0, -1.0, 0.0, 1.0, 3.0]], np.float32), "TIFF")
    assert [pixel[0] for pixel in pixels(numbers, value_range=(-1.0, 1.0))] == [0, 0, 127, 255, 255]


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="here: holds numbers that are not finite"):
        decoded(encoded(np.array([[np.nan]], np.float32), "TIFF"), value_range=(0.0, 1.0))


def test_transparent_colours_do_not_appear() -> None:
    image = np.array([[RED, CLEAR_BLUE, HALF_BLACK]], np.uint8)
    assert pixels(encoded(image)) == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    assert pixels(encoded(image), background="#00ff00")[1] == [0, 255, 0]


def test_grey_with_transparency_is_laid_over_the_background() -> None:
    image = Image.merge("LA", [Image.new("L", (2, 1), 40), Image.fromarray(np.array([[0, 255]], np.uint8))])
    assert pixels(encoded(image)) == [[255, 255, 255], [40, 40, 40]]


def test_a_transparent_entry_of_a_palette_is_background() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, "GIF", transparency=0)) == [[255, 255, 255], [255, 0, 0]]


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (1, 1), colour) for colour in ("red", "blue")]
    assert pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [[255, 0, 0]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"not an image", "it is in no format that Pillow reads"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer: run `git lfs pull`"),
    ],
)
def test_what_is_no_image_is_told_without_an_address_of_memory(data: bytes, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        decode_image(data, "a.png")
    assert str(caught.value) == f"a.png: not an image that can be read: {reason}"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_a_damaged_file_never_ends_in_another_error(kind: str) -> None:
    data, draw = encoded(noise(1, 16), kind), np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data[: draw.integers(1, len(data) + 1)])
        for position in draw.integers(0, len(damaged), 4):
            damaged[position] = draw.integers(256)
        try:
            decode_image(bytes(damaged), "x")
        except DataError:
            refused += 1
    assert refused


# Digests, which are part of the keys of jobs


def test_the_digest_of_an_ordinary_image_is_that_of_its_bytes() -> None:
    opaque = np.dstack([noise(2), np.full((8, 8), 255, np.uint8)])
    for data in (encoded(WIDE), encoded(WIDE, "JPEG", exif=with_orientation(1)), encoded(opaque), b"no image"):
        assert image_digest(data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "data",
    [
        encoded(WIDE, "JPEG", exif=with_orientation(6)),
        encoded(np.full((2, 2), 40000, np.uint16)),
        encoded(np.array([[CLEAR_BLUE]], np.uint8)),
    ],
    ids=["turned", "16-bit", "transparent"],
)
def test_an_image_that_plain_conversion_gets_wrong_has_a_digest_of_its_own(data: bytes) -> None:
    assert image_digest(data) == hashlib.sha256(data).digest() + CONVERSION
