"""How many images of each identity a data set says there are, beside how many it then reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support import downloads
from workloads.datasets.avatars.dataset import AvatarsConfig
from workloads.datasets.base import DATASETS, DatasetConfig, SplitConfig, held_out_of
from workloads.datasets.digits import DigitsConfig
from workloads.datasets.image_folder import ImageFolderConfig
from workloads.datasets.mnist import MnistConfig
from workloads.datasets.parquet import ParquetConfig

PEOPLE = {"ann": 3, "bob": 1, "cy": 2}


def digits(folder: Path) -> DatasetConfig:
    return DigitsConfig(identities=("3", "0"))


def avatars(folder: Path) -> DatasetConfig:
    return AvatarsConfig(people=3, images_per_identity=2)


def image_folder(folder: Path) -> DatasetConfig:
    (folder / "nobody").mkdir()
    return ImageFolderConfig(path=str(downloads.folders(folder, PEOPLE)), image_size=8)


def mnist(folder: Path) -> DatasetConfig:
    return MnistConfig(path=str(downloads.mnist(folder, [5, 0, 4, 0], [0, 4])), identities=("0", "5"))


def tables(folder: Path) -> DatasetConfig:
    """People of two files, one of them in both."""
    image = downloads.picture(folder / "image.png").read_bytes()
    for name, people in {"a": ["bob", "ann", "bob"], "b": ["ann", "bob", "cy"]}.items():
        table = pa.table({"image": [image] * len(people), "identity": people})
        parquet.write_table(table, folder / f"{name}.parquet")
    return ParquetConfig(path=str(folder), image_size=8)


@pytest.mark.parametrize(
    ("config_of", "most"),
    # A cap takes from each part of a published split, which sizes do not know.
    [(mnist, None), *itertools.product((digits, avatars, image_folder, tables), (None, 1))],
)
def test_a_data_set_holds_as_many_images_as_it_says(
    tmp_path: Path, config_of: Callable[[Path], DatasetConfig], most: int | None
) -> None:
    dataset = DATASETS.build(config_of(tmp_path).model_copy(update={"max_per_identity": most}))
    loaded = dataset.load()
    assert dict(dataset.sizes()) == dict(zip(loaded.names, loaded.identities.bincount().tolist(), strict=True))


@pytest.mark.parametrize(("images", "held_out"), [(2, 1), (3, 1), (7, 1), (8, 2), (10, 2), (178, 36)])
def test_a_fifth_is_held_out_and_never_none_or_all(images: int, held_out: int) -> None:
    assert held_out_of(images, SplitConfig(test_fraction=0.2)) == held_out
