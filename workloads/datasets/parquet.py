"""Encoded images in Parquet files, with a column that names the identity."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from workloads.core.config import Addition, Location
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig, Sample
from workloads.datasets.reading.decoding import decode_image


class ParquetConfig(DatasetConfig):
    """Where the Parquet files lie, which columns to read, and which images to use."""

    kind: Literal["parquet"] = "parquet"
    path: Annotated[str, Location(), Field(min_length=1)]
    """A Parquet file, or a folder of them, read in the order of their names; relative to the spec file."""
    image_column: str = "image"
    """Name of the binary column with encoded images (JPEG, PNG, ...)."""
    label_column: str = "identity"
    """Name of the column with identities: strings or integers."""
    part_column: Annotated[str | None, Addition()] = None
    """Name of the column with the published split: 'train' or 'test' in each row. If omitted, there is none."""
    order: Annotated[Literal["sorted", "first_seen"], Addition()] = "sorted"
    """Order of the classes if `identities` is omitted: by name, or in the order in which rows first name them."""


@DATASETS.register(ParquetConfig)
class Parquet(Dataset):
    """Parquet files with a column of encoded images and a column of identities.

    Source: Apache Parquet; the layout of most published image sets converted to tables.
    """

    config: ParquetConfig

    def image_counts(self) -> Mapping[str, int]:
        """Rows of each label; refuses missing labels."""
        counts: Counter[str] = Counter()
        for file in self._files():
            self._check_columns(file)
            import pyarrow.parquet as pq

            column = pq.read_table(file, columns=[self.config.label_column]).column(0)
            if column.null_count:
                raise DataError(f"{file}: column {self.config.label_column!r} has {column.null_count} missing labels.")
            for value in column.value_counts().to_pylist():
                counts[str(value["values"])] += value["counts"]
        return dict(sorted(counts.items())) if self.config.order == "sorted" else counts

    def publishes_split(self) -> bool:
        """Whether a column says which rows are held out."""
        return self.config.part_column is not None

    def digest(self) -> str:
        """A digest of all files."""
        total = hashlib.sha256()
        for file in self._files():
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[Sample]:
        """Images of the rows with these labels, with the part their column names."""
        for file in self._files():
            for row, (label, data, part) in enumerate(self._rows(file)):
                if str(label) in names:
                    where = f"{file}: row {row}"
                    yield Sample(str(label), decode_image(data, where), self._held_out(part, where))

    def _rows(self, file: Path) -> Iterator[tuple[str | int, bytes, str | None]]:
        """Yield label, encoded image and part of each row."""
        import pyarrow.parquet as pq

        label, image, part = self.config.label_column, self.config.image_column, self.config.part_column
        columns = [label, image] + ([part] if part else [])
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024, columns=columns):
            parts = batch.column(part).to_pylist() if part else [None] * len(batch)
            yield from zip(batch.column(label).to_pylist(), batch.column(image).to_pylist(), parts, strict=True)

    def _held_out(self, part: str | None, where: str) -> bool | None:
        if self.config.part_column is None:
            return None
        if part not in ("train", "test"):
            column = self.config.part_column
            raise DataError(f"{where}: {column!r} is {part!r}, not 'train' or 'test': leave part_column out.")
        return part == "test"

    def _files(self) -> list[Path]:
        path = Path(self.config.path)
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise DataError(
                f"no Parquet file at {path}: give a .parquet file or a folder that holds some.", field="path"
            )
        return files

    def _check_columns(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{file} is not a Parquet file: {str(error).partition(chr(10))[0]}", field="path"
            ) from error
        columns = {
            "image_column": self.config.image_column,
            "label_column": self.config.label_column,
            "part_column": self.config.part_column,
        }
        for field, column in columns.items():
            if column is not None and column not in schema.names:
                raise DataError(f"{file} has no column {column!r}. Columns: {', '.join(schema.names)}.", field=field)
        kind = schema.field(self.config.label_column).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(
                f"{self.config.label_column!r} holds {kind}, but labels must be integers or strings.",
                field="label_column",
            )
        kind = schema.field(self.config.image_column).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(
                f"{self.config.image_column!r} holds {kind}, but images must be binary.", field="image_column"
            )
