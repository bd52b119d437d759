"""MNIST and EMNIST as they are downloaded, in idx files of a few images."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import EMNIST

from tests.support import downloads
from tests.support.downloads import pixels
from workloads.core.errors import DataError
from workloads.datasets.emnist import Emnist, EmnistConfig
from workloads.datasets.mnist import Mnist, MnistConfig


def test_mnist_has_the_published_parts_digit_by_digit(tmp_path: Path) -> None:
    dataset = Mnist(MnistConfig(path=str(downloads.mnist(tmp_path, [5, 0, 4, 0], [0, 4]))))
    assert [(entry.identity, entry.file[:8], entry.file[-1], entry.part) for entry in dataset.entries] == [
        ("0", "train-im", "1", "train"),
        ("0", "train-im", "3", "train"),
        ("0", "t10k-ima", "0", "test"),
        ("4", "train-im", "2", "train"),
        ("4", "t10k-ima", "1", "test"),
        ("5", "train-im", "0", "train"),
    ]


def test_mnist_images_belong_to_their_rows(tmp_path: Path) -> None:
    dataset = Mnist(MnistConfig(path=str(downloads.mnist(tmp_path, [5, 0, 4, 0], [0, 4]))))
    assert [int(pixels(dataset, position)[0, 0]) for position in range(6)] == [10, 30, 0, 20, 10, 0]


def test_mnist_is_read_from_gzip_where_torchvision_put_it(tmp_path: Path) -> None:
    for file in downloads.mnist(tmp_path / "MNIST/raw", [1], [1]).iterdir():
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert Mnist(MnistConfig(path=str(tmp_path))).load().images.shape == (2, 1, 32, 32)


def test_mnist_loads_the_digits_asked_for_with_what_is_held_out(tmp_path: Path) -> None:
    root = downloads.mnist(tmp_path, [5, 0, 4, 0], [0, 4])
    loaded = Mnist(MnistConfig(path=str(root), identities=("4", "0"), image_size=4)).load()
    assert loaded.held_out is not None
    assert loaded.identities.tolist() == [1, 1, 1, 0, 0]
    assert loaded.held_out.tolist() == [False, False, True, False, True]


def test_more_labels_than_images_are_noticed(tmp_path: Path) -> None:
    downloads.mnist(tmp_path, [1], [1])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(downloads.idx(np.array([1, 1])))
    with pytest.raises(DataError, match="00001: labelled, but train-images-idx3-ubyte has 1 images"):
        pixels(Mnist(MnistConfig(path=str(tmp_path))), 1)


@pytest.mark.parametrize("damage", [b"", b"<html>", b"\0\0\x08\x01\0\0", b"\0\0\x08\x01\0\0\0\x09\1"])
def test_an_idx_file_that_is_not_whole_is_refused(tmp_path: Path, damage: bytes) -> None:
    downloads.mnist(tmp_path, [1], [1])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(damage)
    with pytest.raises(DataError, match="is not a complete idx file of bytes"):
        Mnist(MnistConfig(path=str(tmp_path))).available()


def test_a_gzip_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    downloads.mnist(tmp_path, [1], [1])
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"0123456789")[:-9])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz is damaged"):
        Mnist(MnistConfig(path=str(tmp_path))).available()


def emnist(root: Path, labels: list[int], *, variant: str = "letters") -> Emnist:
    images = np.array([[[1, 2], [3, 4]]] * len(labels))
    for part in ("train", "test"):
        (root / f"emnist-{variant}-{part}-images-idx3-ubyte").write_bytes(downloads.idx(images))
        (root / f"emnist-{variant}-{part}-labels-idx1-ubyte").write_bytes(downloads.idx(np.array(labels)))
    return Emnist(EmnistConfig.model_validate({"path": str(root), "variant": variant}))


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    assert pixels(emnist(tmp_path, [1])).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("variant", ["letters", "balanced"])
def test_emnist_calls_its_characters_as_torchvision_does(tmp_path: Path, variant: str) -> None:
    named = [(label, name) for label, name in enumerate(EMNIST.classes_split_dict[variant]) if name != "N/A"]
    dataset = emnist(tmp_path, [label for label, _ in named], variant=variant)
    assert list(dataset.available()) == [name for _, name in named]
