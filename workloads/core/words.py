"""Words for messages: numbers with the things they count."""

from __future__ import annotations

from collections.abc import Iterable


def counted(count: int, thing: str) -> str:
    """A number with what it counts; `{s}` in `thing` stands for the ending of the plural.

    >>> counted(1, "file{s} of another kind"), counted(2_000, "file{s} of another kind")
    ('1 file of another kind', '2,000 files of another kind')
    """
    return f"{count:,} {thing.replace('{s}', '' if count == 1 else 's')}"


def first_few(items: Iterable[str], most: int = 3) -> str:
    """Items as a list in words, cut after `most` with the number of the rest.

    >>> first_few(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    items = list(items)
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest:,} more" if rest > 0 else "")
