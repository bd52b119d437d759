"""Images as encoded bytes in Parquet files, with a column that names who is on them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from PIL import Image, UnidentifiedImageError
from pydantic import Field

from workloads.config import Location
from workloads.datasets.base import DATASETS, Dataset, DatasetConfig
from workloads.errors import DataError


class ParquetConfig(DatasetConfig):
    kind: Literal["parquet"] = "parquet"
    path: Annotated[str, Location(), Field(min_length=1)]
    """One Parquet file, or a folder of them, read in the order of their names; relative to the spec file."""
    image_column: str = "image"
    """Binary column with encoded images (JPEG, PNG, ...)."""
    label_column: str = "identity"
    """Column of strings or integers: the identity."""


@DATASETS.register(ParquetConfig)
class Parquet(Dataset):
    """Parquet with a column of encoded images and a column of identities.

    Source: Apache Parquet; the layout of most published image sets converted to tables.
    """

    config: ParquetConfig

    def available(self) -> tuple[str, ...]:
        names: set[str] = set()
        for file in self._files():
            self._check_columns(file)
            import pyarrow.parquet as pq

            column = pq.read_table(file, columns=[self.config.label_column]).column(0)
            if column.null_count:
                raise DataError(f"{file}: column {self.config.label_column!r} has {column.null_count} missing labels.")
            names.update(map(str, column.unique().to_pylist()))
        return tuple(sorted(names))

    def digest(self) -> str:
        total = hashlib.sha256()
        for file in self._files():
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def read(self, names: frozenset[str]) -> Iterator[tuple[str, Image.Image]]:
        import pyarrow.parquet as pq

        for file in self._files():
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(
                batch_size=1024, columns=[self.config.label_column, self.config.image_column]
            ):
                for label, data in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
                    if str(label) in names:
                        yield str(label), _decode(data, f"{file}: row {row}")
                    row += 1

    def _files(self) -> list[Path]:
        path = Path(self.config.path)
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise DataError(f"path: no Parquet file at {path}: give a .parquet file or a folder that holds some.")
        return files

    def _check_columns(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise DataError(f"path: {file} is not a Parquet file: {str(error).partition(chr(10))[0]}") from error
        for field in ("image_column", "label_column"):
            column = getattr(self.config, field)
            if column not in schema.names:
                raise DataError(f"{field}: {file} has no column {column!r}. Columns: {', '.join(schema.names)}.")
        kind = schema.field(self.config.label_column).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(
                f"label_column: {self.config.label_column!r} holds {kind}, but labels must be integers or strings."
            )
        kind = schema.field(self.config.image_column).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(f"image_column: {self.config.image_column!r} holds {kind}, but images must be binary.")


def _decode(data: bytes, where: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{where}: not an image that can be read: {error}") from error
