"""Which part of a published split a file or folder belongs to, as its name says."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

from workloads.core.words import counted

NamedPart = Literal["train", "validation", "test"]
"""Part of a split as publishers name it."""

_NAMES: dict[str, NamedPart] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def part_of_folder(name: str) -> NamedPart | None:
    """The part that a folder is named after; None if it is none.

    >>> part_of_folder("Val"), part_of_folder("Val_Kilmer")
    ('validation', None)
    """
    return _NAMES.get(name.lower())


def part_of_file(name: str) -> NamedPart | None:
    """The part that the name of a file begins with; None if it names none.

    >>> part_of_file("train-00000-of-00002.parquet"), part_of_file("trains.parquet")
    ('train', None)
    """
    return _NAMES.get(re.split(r"[-_.]", name.lower(), maxsplit=1)[0])


def held_out_part(parts: Collection[NamedPart]) -> NamedPart | None:
    """The part that is kept out of training: `test`, else `validation`; None unless there is one beside `train`.

    If there are all three, `validation` is used for neither.
    """
    if "train" not in parts:
        return None
    return next((part for part in ("test", "validation") if part in parts), None)


def pooled_in_words(names: Sequence[str]) -> str | None:
    """A clause on files that are read as one although their names speak of a split; None if they do not."""
    if len({part for name in names if (part := part_of_file(name))}) < 2:
        return None
    return (
        f"{counted(len(names), 'file{s}')} whose names speak of a split are read as one: set parts_by_file: true, and "
        "data.split.rule: published to take that split"
    )
