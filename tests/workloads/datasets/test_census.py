"""Every image decoded once: which cannot be, which are copies, and that a second look decodes nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import encoded, noise
from workloads.datasets.image_folder import ImageFolder, ImageFolderConfig
from workloads.datasets.reading.census import (
    FOLDER_VARIABLE,
    DecodedImage,
    census_of,
    look_of,
    pixel_digest,
    take_census,
)
from workloads.datasets.reading.copies import MOST_BITS, exact_copies, near_copies
from workloads.datasets.reading.decoding import decode_image


def people(root: Path, **images: bytes) -> ImageFolder:
    """A folder for each name, with one image."""
    for name, data in images.items():
        (root / name).mkdir()
        (root / name / "0.png").write_bytes(data)
    return ImageFolder(ImageFolderConfig(path=str(root)))


def image(pixels: str, look: int | None, identity: str = "a", held_out: bool | None = None) -> DecodedImage:
    return DecodedImage(identity, held_out, f"{identity}.png", pixels, look)


def smooth(seed: int) -> Image.Image:
    """A picture with soft shapes, as photographs have them."""
    return Image.fromarray(noise(seed, 6)).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_census_names_every_bad_image_and_keeps_the_order(tmp_path: Path) -> None:
    dataset = people(tmp_path, a=encoded(noise(0)), b=b"", c=encoded(noise(1)), d=b"no image")
    done: list[int] = []
    census = take_census(dataset, done.append)
    assert [bad.where.removeprefix(f"{tmp_path}/") for bad in census.bad] == ["b/0.png", "d/0.png"]
    assert census.bad[0].reason == "not an image that can be read: it is empty"
    assert [image.identity for image in census.images] == ["a", "c"]
    assert sum(done) == 4


def test_a_census_is_kept_as_long_as_the_images_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "faces").mkdir()
    dataset = people(tmp_path / "faces", a=encoded(noise(0)), b=b"")
    decoded: list[int] = []
    first = census_of(dataset, dataset.digest(), decoded.append)
    assert census_of(dataset, dataset.digest(), decoded.append) == first
    assert sum(decoded) == 2
    (tmp_path / "faces/b/0.png").write_bytes(encoded(noise(1)))
    assert census_of(dataset, dataset.digest(), decoded.append).bad == ()
    assert sum(decoded) == 4


def test_a_damaged_census_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "faces").mkdir()
    dataset = people(tmp_path / "faces", a=encoded(noise(0)))
    first = census_of(dataset, dataset.digest())
    (file,) = (tmp_path / "cache").rglob("*.z")
    file.write_bytes(file.read_bytes()[:-3])
    assert census_of(dataset, dataset.digest()) == first


def test_a_census_that_cannot_be_kept_is_taken_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    (tmp_path / "faces").mkdir()
    assert len(census_of(people(tmp_path / "faces", a=encoded(noise(0))), "0").images) == 1


def test_only_images_that_are_used_are_counted_as_used(tmp_path: Path) -> None:
    dataset = people(tmp_path, a=encoded(noise(0)), b=encoded(noise(1)))
    (tmp_path / "a/1.png").write_bytes(encoded(noise(2)))
    used = take_census(dataset).used(1)
    assert [Path(image.where).relative_to(tmp_path).as_posix() for image in used] == ["a/0.png", "b/0.png"]


# Copies


def test_pixels_are_equal_in_whatever_format() -> None:
    picture = Image.fromarray(noise(0))
    assert pixel_digest(picture) == hashlib.sha256(b"(8, 8)" + noise(0).tobytes()).hexdigest()[:32]
    assert pixel_digest(picture.resize((4, 16))) != pixel_digest(picture)


def test_a_look_says_where_an_image_gets_brighter_to_the_right() -> None:
    rising = Image.fromarray(np.tile(np.arange(0, 170, 10, dtype=np.uint8), (16, 1)))
    assert look_of(rising) == 2**256 - 1
    assert look_of(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    assert look_of(Image.new("L", (9, 9), 7)) is None


def test_exact_copies_are_found_with_their_first_original() -> None:
    originals = [image("1", 0, "ann"), image("1", 0, "bob"), image("2", 0)]
    (copy,) = exact_copies([image("1", 9), image("3", 0)], originals)
    assert (copy.image.look, copy.original.identity) == (9, "ann")


@pytest.mark.parametrize(("bits", "copies"), [(1, 1), (MOST_BITS, 1), (MOST_BITS + 1, 0)])
def test_near_copies_differ_in_few_bits(bits: int, copies: int) -> None:
    spread = sum(1 << (position * 17) for position in range(bits))  # one in each part of a look, if there are as many
    assert len(near_copies([image("1", spread)], [image("2", 0)])) == copies


@pytest.mark.parametrize(("bits", "copies"), [(MOST_BITS, 1), (MOST_BITS + 1, 0), (2 * MOST_BITS, 0)])
def test_looks_that_agree_in_places_must_agree_in_all(bits: int, copies: int) -> None:
    assert len(near_copies([image("1", (1 << bits) - 1)], [image("2", 0)])) == copies


def test_exact_copies_and_flat_images_are_no_near_copies() -> None:
    assert near_copies([image("1", 5), image("3", None)], [image("1", 5), image("2", None)]) == []


def test_a_smaller_and_compressed_copy_is_near_and_another_picture_is_not() -> None:
    looks = [look_of(smooth(seed)) for seed in range(2)]
    small = look_of(decode_image(encoded(smooth(0).resize((72, 72)), "JPEG", quality=70), "small"))
    originals = [image("1", looks[0], "same"), image("2", looks[1], "other")]
    (copy,) = near_copies([image("3", small)], originals)
    assert copy.original.identity == "same"
    assert near_copies([originals[1]], originals[:1]) == []
