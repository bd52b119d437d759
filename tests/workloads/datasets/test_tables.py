"""Parquet as Hugging Face and others write it: structs, dictionaries, names of classes, paths, splits by file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.pictures import encoded, noise
from workloads.core.errors import DataError
from workloads.datasets.parquet import Parquet, ParquetConfig

IMAGES = [encoded(noise(number)) for number in range(4)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(file: Path, images: Any = IMAGES, labels: Any = "abab", **metadata: str) -> Path:
    """A table of images and labels."""
    labels = labels if isinstance(labels, pa.Array) else list(labels)
    images = images if isinstance(images, pa.Array) else list(images)
    table = pa.table({"image": images, "identity": labels})
    file.parent.mkdir(exist_ok=True, parents=True)
    parquet.write_table(table.replace_schema_metadata(metadata or None), file, row_group_size=2)
    return file


def read(path: Path, **settings: Any) -> Parquet:
    return Parquet(ParquetConfig(path=str(path), image_size=8, **settings))


def shows(dataset: Parquet, *numbers: int) -> None:
    """Check that a data set holds these of the pictures, in this order."""
    images = [noise(number) for number in numbers]
    assert np.array_equal(dataset.load().images.numpy().transpose(0, 2, 3, 1), images)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IMAGES, pa.large_binary()),
        pa.array([{"bytes": data, "path": None} for data in IMAGES], STRUCT),
        pa.array([{"bytes": data, "path": "0.png"} for data in IMAGES], STRUCT),
    ],
    ids=lambda column: str(column.type),
)
def test_images_may_be_large_or_structs(tmp_path: Path, column: pa.Array) -> None:
    shows(read(write(tmp_path / "t.parquet", column)), 0, 1, 2, 3)


@pytest.mark.parametrize("as_struct", [False, True])
def test_images_may_be_named_by_their_paths(tmp_path: Path, as_struct: bool) -> None:
    for number, data in enumerate(IMAGES):
        (tmp_path / f"{number}.png").write_bytes(data)
    paths = [f"{number}.png" for number in range(4)]
    column = pa.array([{"bytes": None, "path": path} for path in paths], STRUCT) if as_struct else pa.array(paths)
    dataset = read(write(tmp_path / "t.parquet", column))
    shows(dataset, 0, 1, 2, 3)
    before = dataset.digest()
    (tmp_path / "3.png").write_bytes(IMAGES[0])
    assert read(tmp_path / "t.parquet").digest() != before


def test_labels_may_be_dictionaries(tmp_path: Path) -> None:
    labels = pa.array(list("abab")).dictionary_encode()
    assert dict(read(write(tmp_path / "t.parquet", labels=labels)).image_counts()) == {"a": 2, "b": 2}


def test_integer_labels_sort_as_numbers(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "t.parquet", labels=[10, 2, 1, 2]))
    assert dataset.names() == ("1", "2", "10")
    assert dataset.load().identities.tolist() == [2, 1, 0, 1]


def test_names_of_classes_are_read_from_the_metadata_of_hugging_face(tmp_path: Path) -> None:
    about = json.dumps({"info": {"features": {"identity": {"names": ["zoe", "ann"], "_type": "ClassLabel"}}}})
    dataset = read(write(tmp_path / "t.parquet", labels=[1, 0, 1, 0], huggingface=about))
    assert dict(dataset.image_counts()) == {"zoe": 2, "ann": 2}  # in the order of their numbers
    assert dataset.load().identities.tolist() == [1, 0, 1, 0]


def test_files_in_folders_are_read_where_there_are_none_above(tmp_path: Path) -> None:
    write(tmp_path / "data/b.parquet", IMAGES[2:], "ab")
    write(tmp_path / "data/a.parquet", IMAGES[:2], "ab")
    write(tmp_path / ".cache/c.parquet")
    shows(read(tmp_path), 0, 1, 2, 3)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"path: .*t\.parquet: the file has no rows\.$"):
        read(write(tmp_path / "t.parquet", pa.array([], pa.binary()), pa.array([], pa.string()))).available()


@pytest.mark.parametrize(
    ("labels", "words"), [(["a", None, "b", "b"], "1 missing label."), ([None] * 4, "4 missing labels.")]
)
def test_missing_labels_are_refused_by_their_number(tmp_path: Path, labels: list[str | None], words: str) -> None:
    with pytest.raises(DataError, match=f"column 'identity' has {words}"):
        read(write(tmp_path / "t.parquet", labels=pa.array(labels, pa.string()))).available()


def test_a_missing_image_is_refused_at_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.parquet: row 1: column 'image' has no image there"):
        read(write(tmp_path / "t.parquet", [IMAGES[0], None, *IMAGES[2:]])).load()


def test_a_file_that_is_damaged_behind_its_footer_is_refused_in_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", images=[encoded(noise(number, 40)) for number in range(4)])
    data = bytearray(file.read_bytes())
    data[: len(data) - 2_000] = b"\xff" * (len(data) - 2_000)
    file.write_bytes(b"PAR1" + bytes(data[4:]))
    with pytest.raises(DataError, match=r"t\.parquet is damaged: [^\n]*$"):
        read(file).load()


# Splits by name of file


def split(folder: Path) -> Path:
    write(folder / "train-00000-of-00001.parquet", IMAGES[:2], "ab")
    write(folder / "test-00000-of-00001.parquet", IMAGES[2:], "ab")
    return folder


def test_files_named_after_a_split_are_read_as_one_and_that_is_said(tmp_path: Path) -> None:
    dataset = read(split(tmp_path))
    assert dataset.load().held_out is None
    assert list(dataset.notes()) == [
        "2 files whose names speak of a split are read as one: set parts_by_file: true, and data.split.rule: published "
        "to take that split"
    ]


def test_files_named_after_a_split_can_be_taken_as_it(tmp_path: Path) -> None:
    write(split(tmp_path) / "validation-00000-of-00001.parquet")
    dataset = read(tmp_path, parts_by_file=True)
    loaded = dataset.load()
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [True, True, False, False]  # files in the order of their names
    assert list(dataset.notes()) == []
    assert dataset.left_out() == {"validation image{s}": 4}


def test_files_whose_names_do_not_divide_cannot_be_taken_as_a_split(tmp_path: Path) -> None:
    write(split(tmp_path) / "more.parquet")
    with pytest.raises(DataError, match=r"parts_by_file: the names of more\.parquet, test-.* do not divide into train"):
        read(tmp_path, parts_by_file=True).available()


def test_the_digest_of_ordinary_tables_stays(tmp_path: Path) -> None:
    """The digest that results were stored under: SHA-256 over digests of the files."""
    files = [write(tmp_path / f"{name}.parquet") for name in "ab"]
    expected = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
    assert read(tmp_path).digest() == expected.hexdigest()


def test_classes_in_another_order_have_another_digest(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", labels=[10, 2, 1, 2])
    assert read(file).digest() != hashlib.sha256(hashlib.sha256(file.read_bytes()).digest()).hexdigest()
