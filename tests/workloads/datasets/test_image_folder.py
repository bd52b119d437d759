"""Folders of images as people have them: sub-folders, hidden files, other formats, published splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import downloads
from tests.support.pictures import encoded, noise
from workloads.core.errors import DataError
from workloads.datasets.image_folder import ImageFolder, ImageFolderConfig


def folder(root: Path, *files: str) -> ImageFolder:
    """Images at these paths; the first of each identity shows 0, the next 1, and so on."""
    for number, file in enumerate(files):
        downloads.picture(root / file, grey=number)
    return ImageFolder(ImageFolderConfig(path=str(root), image_size=8))


def greys(dataset: ImageFolder) -> list[int]:
    return dataset.load().images[:, 0, 0, 0].tolist()


def left_out(dataset: ImageFolder) -> dict[str, int]:
    return {reason: count for reason, count in dataset.left_out().items() if count}


@pytest.mark.parametrize("suffix", ["gif", "tif", "jfif", "webp", "avif", "PNG", "bmp", "mpo", "jp2"])
def test_every_format_that_pillow_reads_is_read(tmp_path: Path, suffix: str) -> None:
    assert folder(tmp_path, f"a/0.{suffix}", f"b/0.{suffix}").image_counts() == {"a": 1, "b": 1}


def test_images_in_sub_folders_are_read(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "a/9.png", "a/2023/0.png", "b/deep/down/0.png")
    assert dataset.image_counts() == {"a": 2, "b": 1}
    assert greys(dataset) == [1, 0, 2]  # in the order of their paths


def test_hidden_files_and_folders_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "a/0.png", "a/._0.png", ".ipynb_checkpoints/0.png", "b/.cache/0.png", "b/0.png")
    (tmp_path / "a/Thumbs.db").write_bytes(b"x")
    assert dataset.available() == ("a", "b")
    assert left_out(dataset) == {"hidden file{s} or folder{s}": 4}


def test_what_is_no_image_is_counted_by_reason(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "a/0.png")
    (tmp_path / "a/notes.txt").write_text("x")
    (tmp_path / "a/1.heic").write_text("x")
    (tmp_path / "nobody").mkdir()
    (tmp_path / "README").write_text("x")
    assert left_out(dataset) == {
        "file{s} ending in .txt, which Pillow does not read": 1,
        "photograph{s} ending in .heic, which Pillow does not read: convert to JPEG to use them": 1,
        "folder{s} without images": 1,
        "file{s} beside the folders of the identities": 1,
    }


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    assert folder(tmp_path, "a/faces.png/0.png").image_counts() == {"a": 1}


def test_a_link_to_nothing_is_a_missing_image(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "a/0.png")
    (tmp_path / "a/x.png").symlink_to("/nonexistent.png")
    assert dataset.image_counts() == {"a": 2}
    with pytest.raises(DataError, match=r"a/x\.png: missing\.$"):
        dataset.load()


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "a/0.png")
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    assert dataset.image_counts() == {"a": 1}


def test_bad_images_are_skipped_where_the_user_says_so(tmp_path: Path) -> None:
    folder(tmp_path, "a/0.png", "a/1.png", "b/0.png")
    (tmp_path / "a/0.png").write_bytes(b"damaged")
    dataset = ImageFolder(ImageFolderConfig(path=str(tmp_path), image_size=8, on_bad_image="skip", max_per_identity=1))
    assert greys(dataset) == [1, 2]


def test_a_folder_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = folder(tmp_path, "a/0.png", "a/locked/1.png")
    scan = os.scandir

    def guarded(path: str | Path) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"path: .*a/locked: cannot be opened: Permission denied\.$"):
        dataset.available()


# Published splits


def test_train_and_test_above_the_identities_are_a_published_split(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png")
    loaded = dataset.load()
    assert dataset.publishes_split()
    assert (loaded.names, loaded.identities.tolist()) == (("a", "b"), [0, 0, 1, 1])
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [False, True, False, True]
    assert greys(dataset) == [0, 2, 1, 3]


def test_validation_is_held_out_where_there_is_no_test(tmp_path: Path) -> None:
    loaded = folder(tmp_path, "train/a/0.png", "val/a/0.png").load()
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [False, True]


def test_validation_beside_test_is_left_out_and_counted(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "train/a/0.png", "val/a/0.png", "val/a/1.png", "test/a/0.png")
    assert dataset.image_counts() == {"a": 2}
    assert left_out(dataset) == {"image{s} in val/, which neither trains nor tests": 2}


def test_train_alone_publishes_no_split(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "train/a/0.png")
    assert not dataset.publishes_split()
    assert dataset.load().held_out is None


def test_a_split_beside_other_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has test/, train/ as a published split has, and extra/ beside"):
        folder(tmp_path, "test/a/0.png", "train/a/0.png", "extra/0.png").available()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["test/a/0.png", "val/a/0.png"], "has test/ and val/ and no train/: give the path of one of them."),
        (["0.png", "1.png"], "holds images without folders: put those of each identity into a folder"),
        (["shard.tar"], r"has no sub-folder with images, but \.tar files: set kind: webdataset\."),
        (["a/0.heic", "b/0.heic"], r"has no sub-folder with images .* It holds 2 photographs ending in \.heic"),
    ],
)
def test_a_folder_that_is_laid_out_in_another_way_is_refused_with_what_to_do(
    tmp_path: Path, files: list[str], reason: str
) -> None:
    for file in map(tmp_path.joinpath, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(noise(0)))
    with pytest.raises(DataError, match=reason) as caught:
        ImageFolder(ImageFolderConfig(path=str(tmp_path))).names()
    assert caught.value.field == "path"


def test_identities_that_may_lie_one_folder_deeper_are_noted(tmp_path: Path) -> None:
    deeper = folder(tmp_path, "faces/a/0.png", "faces/b/0.png")
    assert list(deeper.notes()) == [
        f"faces/ is one identity, with all folders in it: if these are the identities, set path: {tmp_path}/faces"
    ]
    assert not list(folder(tmp_path / "faces", "a/0.png").notes())


def test_people_called_train_and_test_are_people(tmp_path: Path) -> None:
    assert folder(tmp_path, "train/0.png", "test/0.png").available() == ("test", "train")


def test_the_digest_of_ordinary_folders_stays(tmp_path: Path) -> None:
    """The digest that results were stored under: SHA-256 over names and over digests of files."""
    import hashlib

    files = {"a/0.png": encoded(noise(0)), "a/1.jpg": encoded(noise(1), "JPEG"), "b/0.png": encoded(noise(2))}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    expected = hashlib.sha256()
    for name, data in files.items():
        expected.update(f"{name}\n".encode() + hashlib.sha256(data).digest())
    assert ImageFolder(ImageFolderConfig(path=str(tmp_path))).digest() == expected.hexdigest()
