"""Encoded images in Parquet files, with a column that names the identity."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from workloads.core.config import Addition, Location
from workloads.core.errors import ConfigError, DataError
from workloads.core.words import counted, first_few
from workloads.datasets.base import DATASETS
from workloads.datasets.reading.decoding import conversion_mark, image_digest
from workloads.datasets.reading.folders import is_hidden
from workloads.datasets.reading.parts import held_out_part, part_of_file, pooled_in_words
from workloads.datasets.reading.stored import ImageFiles, ImageFilesConfig, StoredImage

if TYPE_CHECKING:
    import pyarrow as pa

BY_NUMBER = b"classes by number"
"""What stands in the digest where classes are not in the order of their names as text."""


class ParquetConfig(ImageFilesConfig):
    """Where the Parquet files lie, which columns to read, and which images to use."""

    kind: Literal["parquet"] = "parquet"
    path: Annotated[str, Location(), Field(min_length=1)]
    """A Parquet file, or a folder of them, read in the order of their names; relative to the spec file."""
    image_column: str = "image"
    """Name of the column with images: encoded (JPEG, PNG, ...) as bytes, or as the struct of bytes and path that
    Hugging Face writes; or as paths of files, relative to the folder of the Parquet file."""
    label_column: str = "identity"
    """Name of the column with identities: strings or integers. Integers whose names Hugging Face's metadata gives are
    read as these names."""
    part_column: Annotated[str | None, Addition()] = None
    """Name of the column with the published split: 'train' or 'test' in each row. If omitted, there is none."""
    parts_by_file: Annotated[bool, Addition()] = False
    """Whether names of files that begin with `train`, `test` or `validation` are the published split. If there are
    all three, `validation` is left out."""
    order: Annotated[Literal["sorted", "first_seen"], Addition()] = "sorted"
    """Order of the classes if `identities` is omitted: by name, integers by number; or as rows first name them."""

    @model_validator(mode="after")
    def _one_split(self) -> ParquetConfig:
        if self.parts_by_file and self.part_column is not None:
            raise ConfigError("part_column and parts_by_file both say what the published split is: leave one out")
        return self


class _Table(NamedTuple):
    """A file of the data set."""

    path: Path
    held_out: bool | None = None
    """Whether its name keeps it out of training; None unless `parts_by_file`."""


@DATASETS.register(ParquetConfig)
class Parquet(ImageFiles):
    """Parquet files with a column of images and a column of identities.

    Source: Apache Parquet; the layout of most published image sets converted to tables, Hugging Face's among them.
    """

    config: ParquetConfig

    def image_counts(self) -> Mapping[str, int]:
        """Rows of each label; refuses missing labels and parts that are none."""
        return self._counts

    def publishes_split(self) -> bool:
        """Whether a column or the names of the files say which rows are held out."""
        return self.config.part_column is not None or self.config.parts_by_file

    def left_out(self) -> Counter[str]:
        """Rows of validation, where names of files say which train and which test."""
        return self._tables_and_rest[1]

    def notes(self) -> Iterator[str]:
        """Files that are read as one although their names speak of a split."""
        pooled = pooled_in_words([table.path.name for table in self._tables])
        if pooled and not self.publishes_split():
            yield pooled

    def digest(self) -> str:
        """A digest of all files, and of how they are read where that is not plain."""
        total = hashlib.sha256()
        for table in self._tables:
            with table.path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
            for mark in self._marks(table):
                total.update(mark)
        if list(self._counts) != sorted(self._counts) and self.config.order == "sorted":
            total.update(BY_NUMBER)
        return total.hexdigest()

    def stored(self, names: frozenset[str]) -> Iterator[StoredImage]:
        """Images of the rows with these labels, with the part that their column or file names."""
        for table in self._tables:
            for row, (label, value, part) in enumerate(self._rows(table)):
                if label in names:
                    where = f"{table.path}: row {row}"
                    held_out = table.held_out if self.config.part_column is None else self._held_out(part, where)
                    yield self.stored_image(label, where, partial(self._bytes, value, table, where), held_out)

    def _bytes(self, value: Any, table: _Table, where: str) -> bytes:
        from workloads.datasets.parquet.columns import image_bytes

        return image_bytes(value, folder=table.path.parent, column=self.config.image_column, where=where)

    def _marks(self, table: _Table) -> Iterator[bytes]:
        """Bytes for each row whose pixels are not those of plain conversion, and for each that names a file."""
        from workloads.datasets.parquet.columns import inline_bytes

        for row, (_, value, _) in enumerate(self._rows(table)):
            data = inline_bytes(value)
            mark = self._digest_of_file(value, table) if data is None else conversion_mark(data)
            if mark:
                yield f"{row}:".encode() + mark

    def _digest_of_file(self, value: Any, table: _Table) -> bytes:
        """Digest of the file that a row names; empty if there is none to read."""
        try:
            return image_digest(self._bytes(value, table, ""))
        except DataError:
            return b""

    def _rows(self, table: _Table) -> Iterator[tuple[str, Any, str | None]]:
        """Yield label, image and part of each row."""
        from workloads.datasets.parquet.columns import read_batches

        label, image, part = self.config.label_column, self.config.image_column, self.config.part_column
        columns = [label, image] + ([part] if part else [])
        for batch in read_batches(table.path, columns):
            parts = batch.column(part).to_pylist() if part else [None] * len(batch)
            yield from zip(
                map(self._name, batch.column(label).to_pylist()), batch.column(image).to_pylist(), parts, strict=True
            )

    def _held_out(self, part: str | None, where: str) -> bool:
        if part not in ("train", "test"):
            column = self.config.part_column
            raise DataError(
                f"{where}: {column!r} is {part!r}, not 'train' or 'test': leave part_column out.", field="part_column"
            )
        return part == "test"

    @cached_property
    def _counts(self) -> Mapping[str, int]:
        """Rows of each identity, in the order of the classes."""
        counts: Counter[Any] = Counter()
        for table in self._tables:
            counts.update(self._labels(table))
        if not counts:
            raise DataError(f"{self.config.path}: {_have_no_rows(len(self._tables))}.", field="path")
        ordered = sorted(counts.items(), key=_by_number) if self.config.order == "sorted" else counts.items()
        return {self._name(label): count for label, count in ordered}

    def _labels(self, table: _Table) -> Counter[Any]:
        """Rows of each label as it is stored, in the order in which rows first name them."""
        from workloads.datasets.parquet.columns import read_column

        column = read_column(table.path, self.config.label_column)
        if column.null_count:
            missing = counted(column.null_count, "missing label{s}")
            raise DataError(f"{table.path}: column {self.config.label_column!r} has {missing}.")
        if self.config.part_column is not None:
            parts = read_column(table.path, self.config.part_column)
            for row, part in enumerate(parts.to_pylist()):
                self._held_out(part, f"{table.path}: row {row}")
        return Counter({value["values"]: value["counts"] for value in column.value_counts().to_pylist()})

    def _name(self, label: str | int) -> str:
        """The identity that a label stands for; a number without a name stands for itself."""
        names = self._class_names
        return names[label] if names and isinstance(label, int) and 0 <= label < len(names) else str(label)

    @cached_property
    def _class_names(self) -> Sequence[str] | None:
        """Names of integer labels, in the order of the integers, where the first file gives them."""
        from workloads.datasets.parquet.columns import class_names, holds_integers, read_schema

        schema, label = read_schema(self._tables[0].path), self.config.label_column
        return class_names(schema, label) if holds_integers(schema.field(label).type) else None

    @property
    def _tables(self) -> tuple[_Table, ...]:
        return self._tables_and_rest[0]

    @cached_property
    def _tables_and_rest(self) -> tuple[tuple[_Table, ...], Counter[str]]:
        """The files that are read, whose columns have been checked, and the rows of those that are not."""
        files = self._files()
        for file in files:
            self._check_columns(file)
        if not self.config.parts_by_file:
            return tuple(map(_Table, files)), Counter()
        parts = {file: part_of_file(file.name) for file in files}
        held_out = held_out_part([part for part in parts.values() if part])
        if held_out is None or None in parts.values():
            names = first_few(file.name for file in files)
            raise DataError(
                f"the names of {names} do not divide into train and test: leave it out.", field="parts_by_file"
            )
        read = {file: part for file, part in parts.items() if part in ("train", held_out)}
        tables = tuple(_Table(file, part == held_out) for file, part in read.items())
        return tables, _count_rows(file for file in files if file not in read)

    def _files(self) -> list[Path]:
        path = Path(self.config.path)
        files = _tables_in(path) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise DataError(
                f"no Parquet file at {path}: give a .parquet file or a folder that holds some.", field="path"
            )
        return files

    def _check_columns(self, file: Path) -> None:
        from workloads.datasets.parquet.columns import read_schema

        schema = read_schema(file)
        columns = {
            "image_column": self.config.image_column,
            "label_column": self.config.label_column,
            "part_column": self.config.part_column,
        }
        for field, column in columns.items():
            if column is not None and column not in schema.names:
                raise DataError(f"{file} has no column {column!r}. Columns: {', '.join(schema.names)}.", field=field)
        self._check_types(file, schema)

    def _check_types(self, file: Path, schema: pa.Schema) -> None:
        from workloads.datasets.parquet.columns import holds_images, holds_labels

        kind = schema.field(self.config.label_column).type
        if not holds_labels(kind):
            raise DataError(
                f"{self.config.label_column!r} holds {kind}, but labels must be integers or strings.",
                field="label_column",
            )
        kind = schema.field(self.config.image_column).type
        if not holds_images(kind) and not self._holds_paths(file, kind):
            raise DataError(
                f"{self.config.image_column!r} holds {kind}, but images must be binary.", field="image_column"
            )

    def _holds_paths(self, file: Path, kind: pa.DataType) -> bool:
        from workloads.datasets.parquet.columns import holds_text, name_files, read_column

        column = self.config.image_column
        return holds_text(kind) and name_files(read_column(file, column).to_pylist(), file.parent)


def _by_number(item: tuple[Any, int]) -> tuple[bool, Any]:
    """Integers by number and before texts, texts as such."""
    return isinstance(item[0], str), item[0]


def _count_rows(files: Iterable[Path]) -> Counter[str]:
    """Rows of files that are left out as those of validation."""
    import pyarrow.parquet as pq

    return Counter({"validation image{s}": sum(pq.read_metadata(file).num_rows for file in files)})


def _tables_in(folder: Path) -> list[Path]:
    """Parquet files directly inside a folder, or else those below it."""
    return sorted(folder.glob("*.parquet")) or sorted(
        file for file in folder.rglob("*.parquet") if not any(map(is_hidden, file.relative_to(folder).parts))
    )


def _have_no_rows(files: int) -> str:
    return "the file has no rows" if files == 1 else f"the {files} files have no rows"
