"""What a file of prepared images holds and how it is called: as this project reads it, or as Hugging Face does."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from workloads.datasets.reading.raw import Entry

Format = Literal["midre", "hf"]
"""For whom images are laid out: this project, or Hugging Face's `datasets`."""


class Layout(ABC):
    """Columns of a file, and how images are divided into files."""

    name: Format
    schema: pa.Schema
    small_columns: Sequence[str]
    """Columns that gain from a dictionary and statistics: images are compressed already."""

    @abstractmethod
    def row(self, entry: Entry, image: bytes) -> dict[str, Any]:
        """One image as a row of the schema."""

    @abstractmethod
    def files(self, entries: Sequence[Entry], rows: int) -> list[tuple[str, Sequence[Entry]]]:
        """Name of each file, below the folder of a side, with the images in it: `rows` at most."""


class MidreLayout(Layout):
    """Names of identities as text, and the part of each image in a column."""

    name = "midre"
    schema = pa.schema(
        [("identity", pa.string()), ("file", pa.string()), ("part", pa.string()), ("image", pa.binary())]
    )
    small_columns = ("identity", "part")

    def row(self, entry: Entry, image: bytes) -> dict[str, Any]:
        """Identity, file, part and image."""
        return {"identity": entry.identity, "file": entry.file, "part": entry.part, "image": image}

    def files(self, entries: Sequence[Entry], rows: int) -> list[tuple[str, Sequence[Entry]]]:
        """Files in the order of the entries."""
        return _numbered("", entries, rows)


class HuggingFaceLayout(Layout):
    """Images as structs, numbers for identities with their names in the metadata, one set of files for each part.

    Source: the Parquet files of huggingface.co/docs/datasets and their `ClassLabel` and `Image` features.
    """

    name = "hf"
    small_columns = ("label",)

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the identities, in the order of their numbers."""
        self.names = tuple(names)
        self._numbers = {name: number for number, name in enumerate(names)}

    @cached_property
    def schema(self) -> pa.Schema:
        """Image, label and file, described as `datasets` describes them."""
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        about = json.dumps({"info": {"features": self.features}})
        columns = [("image", image), ("label", pa.int64()), ("file", pa.string())]
        return pa.schema(columns, metadata={"huggingface": about})

    @property
    def features(self) -> dict[str, Any]:
        """The columns in the words of `datasets`."""
        return {
            "image": {"_type": "Image"},
            "label": {"names": list(self.names), "_type": "ClassLabel"},
            "file": {"dtype": "string", "_type": "Value"},
        }

    def row(self, entry: Entry, image: bytes) -> dict[str, Any]:
        """Image, number of the identity, and file."""
        name = entry.file.rpartition("/")[2]
        return {"image": {"bytes": image, "path": name}, "label": self._numbers[entry.identity], "file": entry.file}

    def files(self, entries: Sequence[Entry], rows: int) -> list[tuple[str, Sequence[Entry]]]:
        """Files of the training part, then of the test part; images without a part are for training."""
        parts = {"train": [entry for entry in entries if entry.part != "test"]}
        parts["test"] = [entry for entry in entries if entry.part == "test"]
        return [file for part, images in parts.items() for file in _numbered(f"data/{part}-", images, rows)]


def layout_for(form: Format, names: Sequence[str]) -> Layout:
    """The layout of this name, for identities with these names."""
    return HuggingFaceLayout(names) if form == "hf" else MidreLayout()


def _numbered(prefix: str, entries: Sequence[Entry], rows: int) -> list[tuple[str, Sequence[Entry]]]:
    """Divide entries into files of `rows`, named by their number of how many."""
    parts = [entries[start : start + rows] for start in range(0, len(entries), rows)]
    return [(f"{prefix}{number:05d}-of-{len(parts):05d}.parquet", part) for number, part in enumerate(parts)]
