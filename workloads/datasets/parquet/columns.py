"""Columns of a Parquet file: which types serve as images and as labels, and what a row of them says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workloads.core.errors import DataError
from workloads.datasets.reading.decoding import read_file
from workloads.datasets.reading.stored import MissingImage

BATCH_ROWS = 1024
"""Rows that are in memory at a time."""
FIRST_PATHS = 100
"""Texts of a column that are tried as paths."""
HUGGING_FACE = b"huggingface"
"""Key of the metadata in which Hugging Face's `datasets` describes the columns, as JSON."""


def read_schema(file: Path) -> pa.Schema:
    """Columns and types of a Parquet file.

    Raises:
        DataError: if it is not one.
    """
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} is not a Parquet file: {reason}", field="path") from error


def read_column(file: Path, column: str) -> pa.ChunkedArray:
    """One column of a file.

    Raises:
        DataError: if the file is damaged.
    """
    with _damage_told(file):
        return pq.read_table(file, columns=[column]).column(0)


def read_batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a file, `BATCH_ROWS` at a time.

    Raises:
        DataError: if the file is damaged.
    """
    with _damage_told(file):
        yield from pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=list(columns))


@contextmanager
def _damage_told(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a line about it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is damaged: {str(error).partition(chr(10))[0]}", field="path") from error


def holds_labels(kind: pa.DataType) -> bool:
    """Whether a column of this type can name identities: strings or integers, also as a dictionary."""
    if pa.types.is_dictionary(kind):
        return holds_labels(kind.value_type)
    return pa.types.is_integer(kind) or holds_text(kind)


def holds_integers(kind: pa.DataType) -> bool:
    """Whether a column of this type holds integers, also as a dictionary."""
    return pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind)


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold images: bytes, or a struct of bytes and path as Hugging Face writes it."""
    if pa.types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return _is_binary(kind) or pa.types.is_fixed_size_binary(kind)


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def class_names(schema: pa.Schema, column: str) -> Sequence[str] | None:
    """Names of the classes that Hugging Face's metadata gives to the integers of a column; None if it gives none."""
    try:
        about = json.loads((schema.metadata or {}).get(HUGGING_FACE, b"{}"))
        names = about["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def name_files(values: Iterable[str | None], folder: Path) -> bool:
    """Whether texts are paths of files, relative to `folder`: one of the first that are there names one."""
    return any((folder / value).is_file() for value in itertools.islice(filter(None, values), FIRST_PATHS))


def inline_bytes(value: Any) -> bytes | None:
    """Bytes of an image that a row holds itself, None if it holds a path or nothing."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def image_bytes(value: Any, *, folder: Path, column: str, where: str) -> bytes:
    """Bytes of the image in a row: those it holds, or those of the file it names, relative to `folder`.

    Raises:
        MissingImage: if the row has none.
        DataError: if the file cannot be read.
    """
    data = inline_bytes(value)
    if data is not None:
        return data
    path = value.get("path") if isinstance(value, Mapping) else value
    if not path:
        raise MissingImage(f"{where}: column {column!r} has no image there.", column=column)
    return read_file(folder / str(path))
