"""CelebA as it is downloaded, divided by either protocol, on twelve images in its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import downloads
from tests.support.downloads import files, pixels
from workloads.core.errors import DataError
from workloads.datasets.celeba import Celeba, CelebaConfig

# CelebA at 64 pixels


def low(root: Path, **changes: Any) -> Celeba:
    return Celeba(CelebaConfig.model_validate({"path": str(root), "check": False, **changes}))


def test_celeba_lists_give_the_parts(tmp_path: Path) -> None:
    dataset = low(downloads.celeba(tmp_path))
    assert files(dataset, "train") == ["000002.jpg", "000005.jpg", "000006.jpg", "000001.jpg"]
    assert files(dataset, "test") == ["000009.jpg", "000007.jpg"]


def test_celeba_classes_stand_in_the_order_of_the_listed_labels(tmp_path: Path) -> None:
    assert low(downloads.celeba(tmp_path)).names() == ("5", "7")


def test_celeba_public_images_are_the_listed_ones_by_person(tmp_path: Path) -> None:
    dataset = low(downloads.celeba(tmp_path), side="public")
    assert [(entry.identity, Path(entry.file).name, entry.part) for entry in dataset.entries] == [
        ("3", "000004.jpg", None),
        ("9", "000003.jpg", None),
        ("9", "000008.jpg", None),
    ]


def test_celeba_is_found_in_the_folder_that_torchvision_makes(tmp_path: Path) -> None:
    (tmp_path / "celeba").mkdir()
    downloads.celeba(tmp_path / "celeba")
    assert low(tmp_path).names() == ("5", "7")


def test_celeba_keeps_the_central_108_pixels_of_178_by_218(tmp_path: Path) -> None:
    dataset = low(downloads.celeba(tmp_path))
    image = dataset.root / dataset.entries[0].file
    image.unlink()
    # (178 - 108) / 2 = 35 from the left, (218 - 108) / 2 = 55 from the top
    downloads.framed(image.with_suffix(".png"), (178, 218), (35, 55, 143, 163))
    assert pixels(dataset).shape == (108, 108, 3)
    assert (pixels(dataset) == 255).all()


def test_celeba_of_another_size_is_refused(tmp_path: Path) -> None:
    dataset = low(downloads.celeba(tmp_path, size=(200, 200)))
    checked = Celeba(dataset.config.model_copy(update={"check": True}))
    with pytest.raises(DataError, match="200 x 200 pixels, but lr_64 starts from 178 x 218"):
        checked.crop(dataset.entries[0], (200, 200))


def test_celeba_lists_of_other_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 2 people, 4 train, 2 test, 3 public, where 1000 people, 27018 train, "):
        low(downloads.celeba(tmp_path), check=True).available()


def test_celeba_lists_of_the_published_sizes_are_accepted(tmp_path: Path) -> None:
    downloads.celeba(tmp_path)
    people = [str(number % 1000) for number in range(30_027)] + [str(1000 + number % 6453) for number in range(30_000)]
    names = [f"{number:06d}.jpg" for number in range(len(people))]
    rows = [f"{name} {person}" for name, person in zip(names, people, strict=True)]
    lists = {"trainset": rows[:27_018], "testset": rows[27_018:30_027], "ganset": names[30_027:]}
    (tmp_path / "identity_CelebA.txt").write_text("\n".join(rows))
    for name, lines in lists.items():
        (tmp_path / f"meta/{name}.txt").write_text("\n".join(lines))
    assert len(low(tmp_path, check=True).entries) == 30_027


def test_celeba_people_on_both_sides_are_refused(tmp_path: Path) -> None:
    lists = {**downloads.CELEBA_LISTS, "ganset": ["000004.jpg", "000012.jpg"]}
    with pytest.raises(DataError, match="have 1 people on both sides, '5' for example"):
        low(downloads.celeba(tmp_path, lists=lists)).available()


def test_celeba_labels_that_mix_people_are_refused(tmp_path: Path) -> None:
    lists = {**downloads.CELEBA_LISTS, "testset": ["000007.jpg 0"]}
    with pytest.raises(DataError, match="give a person two classes, or a class two people"):
        low(downloads.celeba(tmp_path, lists=lists)).available()


def test_a_list_that_names_an_unknown_image_is_refused(tmp_path: Path) -> None:
    lists = {**downloads.CELEBA_LISTS, "ganset": ["000099.jpg"]}
    with pytest.raises(DataError, match=r"a list names 000099.jpg, but identity_CelebA.txt does not say"):
        low(downloads.celeba(tmp_path, lists=lists)).available()


def test_a_list_that_is_no_list_is_refused_at_its_line(tmp_path: Path) -> None:
    lists = {**downloads.CELEBA_LISTS, "trainset": ["000002.jpg 0", "<html>"]}
    with pytest.raises(DataError, match=r"trainset.txt:2: not a file name and a number: '<html>'"):
        low(downloads.celeba(tmp_path, lists=lists)).available()


def test_missing_lists_are_named(tmp_path: Path) -> None:
    downloads.celeba(tmp_path)
    (tmp_path / "meta/ganset.txt").unlink()
    with pytest.raises(DataError, match=r"path: no .*/meta/ganset.txt: the lists come with attacks and defenses"):
        low(tmp_path).available()


# CelebA at 224 pixels


def high(root: Path, **changes: Any) -> Celeba:
    return low(root, protocol="hr_224", private_people=3, **changes)


def test_the_most_frequent_people_of_celeba_are_private_and_ties_go_to_whom_is_seen_first(tmp_path: Path) -> None:
    assert high(downloads.celeba(tmp_path)).names() == ("7", "5", "9")


def test_all_other_people_of_celeba_are_public(tmp_path: Path) -> None:
    assert files(high(downloads.celeba(tmp_path), side="public")) == ["000004.jpg", "000010.jpg"]


def test_the_images_held_out_of_celeba_are_drawn_over_the_private_ones(tmp_path: Path) -> None:
    # Private are 1 2 3 5 6 7 8 9 11 12; of ten images the draw holds out position 6.
    assert files(high(downloads.celeba(tmp_path)), "test") == ["000008.jpg"]


def test_celeba_at_224_pixels_is_kept_whole(tmp_path: Path) -> None:
    dataset = high(downloads.celeba(tmp_path, size=(224, 224)))
    assert dataset.encoded(dataset.entries[0]) == (tmp_path / dataset.entries[0].file).read_bytes()


def test_celeba_in_other_numbers_is_refused_at_224_pixels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="where 1000 people, 27034 train, 3004 test, 172561 public were published"):
        high(downloads.celeba(tmp_path), check=True).available()
