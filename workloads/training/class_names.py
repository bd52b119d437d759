"""Names of what a classifier tells apart, where somebody else trained it: read from a file, put into our order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workloads.core.errors import ConfigError


def names_in(classes: object) -> object:
    """Names in a text file, one a line, if a path stands for them; for a "before" validator.

    Raises:
        ValueError: if there is no such file, or it holds no text.
    """
    if not isinstance(classes, str):
        return tuple(classes) if isinstance(classes, list) else classes
    try:
        return tuple(line.strip() for line in Path(classes).read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"no names can be read from {classes}: give a text file with one a line") from error


def outputs_of(classes: Sequence[str], names: Sequence[str]) -> list[int]:
    """The output of each identity: positions in `classes`, in the order of `names`.

    Raises:
        ConfigError: if the two do not hold the same names, each once.
    """
    for name in sorted(set(classes) ^ set(names))[:1]:
        side = "classes has" if name in classes else "data.private has"
        raise ConfigError(f"{side} {name!r}, which the other lacks: classes and private identities must be the same.")
    if len(classes) != len(names):
        twice = next(name for index, name in enumerate(classes) if name in classes[:index])
        raise ConfigError(f"classes names {twice!r} twice: name each once.")
    return [classes.index(name) for name in names]
