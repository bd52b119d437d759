"""Tar files as WebDataset writes them, read in place."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.support.pictures import encoded, noise
from workloads.core.errors import DataError
from workloads.datasets.webdataset import Webdataset, WebdatasetConfig

IMAGES = [encoded(noise(number)) for number in range(4)]


def tar(file: Path, members: dict[str, bytes], mode: Literal["w:", "w:gz"] = "w:") -> Path:
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def samples(labels: str, first: int = 0) -> dict[str, bytes]:
    """An image and a label for each letter, with pictures from a number on."""
    members: dict[str, bytes] = {}
    for number, label in enumerate(labels):
        members |= {f"{number:04d}.png": IMAGES[first + number], f"{number:04d}.cls": label.encode() + b"\n"}
    return members


def read(path: Path, **settings: Any) -> Webdataset:
    return Webdataset(WebdatasetConfig(path=str(path), image_size=8, **settings))


def test_samples_are_read_in_their_order(tmp_path: Path) -> None:
    tar(tmp_path / "data/b.tar", samples("ab", 2))
    tar(tmp_path / "data/a.tar", samples("ba"))
    dataset = read(tmp_path / "data")
    assert dict(dataset.image_counts()) == {"a": 2, "b": 2}
    loaded = dataset.load()
    assert loaded.identities.tolist() == [1, 0, 0, 1]
    assert np.array_equal(loaded.images.numpy().transpose(0, 2, 3, 1), [noise(number) for number in range(4)])


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    members = {"a.png": IMAGES[0], "a.cls": b"10", "b.png": IMAGES[1], "b.cls": b"9"}
    assert read(tar(tmp_path / "t.tar", members)).names() == ("9", "10")


def test_a_label_may_stand_in_json(tmp_path: Path) -> None:
    members = {"x/1.seg.png": b"", "x/1.jpg": IMAGES[0], "x/1.json": json.dumps({"who": "ann"}).encode()}
    file = tar(tmp_path / "t.tar", members)
    assert read(file, label="json", label_key="who").available() == ("ann",)
    with pytest.raises(DataError, match=r"label_key: .*t\.tar: x/1\.json has no 'label'\.$"):
        read(file, label="json").available()


def test_a_sample_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label: .*t\.tar: a has no \.cls\. Its endings: png, txt\."):
        read(tar(tmp_path / "t.tar", {"a.png": IMAGES[0], "a.txt": b"x"})).available()


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    members = {**samples("ab"), "._0000.png": b"x", "0009.cls": b"a"}
    assert read(tar(tmp_path / "t.tar", members)).left_out() == {
        "hidden file{s} or folder{s}": 1,
        "sample{s} without an image": 1,
    }


def test_files_named_after_a_split_are_read_as_one_and_that_is_said(tmp_path: Path) -> None:
    for name in ("train-0.tar", "test-0.tar"):
        tar(tmp_path / name, samples("ab"))
    (note,) = read(tmp_path).notes()
    assert note.startswith("2 files whose names speak of a split are read as one: set parts_by_file: true")
    assert not list(read(tmp_path, parts_by_file=True).notes())


def test_files_named_after_a_split_can_be_taken_as_it(tmp_path: Path) -> None:
    tar(tmp_path / "d/test-0.tar", samples("a"))
    tar(tmp_path / "d/train-0.tar", samples("a", 1))
    tar(tmp_path / "d/val-0.tar", samples("ab"))
    dataset = read(tmp_path / "d", parts_by_file=True)
    loaded = dataset.load()
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [True, False]
    assert dataset.left_out() == {"validation image{s}": 2}


@pytest.mark.parametrize("write", ["compressed", "text"])
def test_what_is_no_plain_tar_is_refused(tmp_path: Path, write: str) -> None:
    file = tmp_path / "t.tar"
    if write == "compressed":
        tar(file, samples("ab"), "w:gz")
    else:
        file.write_text("x" * 600)
    with pytest.raises(DataError, match=r"path: .*t\.tar is not a plain tar file: .* If it is compressed, uncompress"):
        read(file).available()


def test_a_digest_follows_the_files(tmp_path: Path) -> None:
    first = read(tar(tmp_path / "a.tar", samples("ab"))).digest()
    assert read(tar(tmp_path / "b.tar", samples("ab"))).digest() == first
    assert read(tar(tmp_path / "b.tar", samples("ab", 1))).digest() != first
