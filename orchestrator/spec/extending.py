"""Specs that extend others: what a spec names in `extends`, with its own fields put over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.errors import Problem, SpecError
from orchestrator.spec.model import EXTENDS
from orchestrator.spec.yaml_source import FieldPath, Source, read_yaml

APPEND = "append"
"""In place of a position: items to add to the end of a list."""
Prepare = Callable[[Any, Path], None]
"""Changes the data of one file in place, given its folder."""


def read_extended(file: Path, prepare: Prepare, *, extended_by: tuple[Path, ...] = ()) -> Source:
    """Read a spec and all that it extends, as one.

    Fields are put over those of the spec it extends: sections field by field; a component of another kind as a whole; a
    list as a whole, or, where a mapping stands in its place, the items at the positions that it names, with `append`
    for items to add. `null` in place of a section or a list leaves it out.

    Args:
        prepare: is called with the data of each file before they are put together.
        extended_by: files that led here, so that a circle ends.

    Raises:
        SpecError: for a file that cannot be read, a circle, or a position that a list does not have.
    """
    source = read_yaml(file)
    prepare(source.data, file.parent.absolute())
    if EXTENDS not in source.data:
        return source
    base_file = _extended_file(file, source.data.pop(EXTENDS), source.line((EXTENDS,)), extended_by)
    base = read_extended(base_file, prepare, extended_by=(*extended_by, file))
    return _Extension(base, source).result()


def _extended_file(file: Path, name: Any, line: int, extended_by: tuple[Path, ...]) -> Path:
    """The file that a spec extends; raises as `read_extended` does."""
    if not isinstance(name, str):
        raise SpecError(str(file), [Problem(line, EXTENDS, f"must be the path of a spec, got {name!r}.")])
    base = file.parent / name
    if not base.is_file():
        raise SpecError(str(file), [Problem(line, EXTENDS, f"no file {base}: give a path relative to this spec.")])
    if base.resolve() in (path.resolve() for path in (*extended_by, file)):
        raise SpecError(str(file), [Problem(line, EXTENDS, f"{name} extends this spec in turn: end the circle.")])
    return base


class _Extension:
    """Puts one source over another, and keeps track of the place of each field."""

    def __init__(self, base: Source, over: Source) -> None:
        self._base, self._over = base, over
        self._merged = Source(over.file, None, dict(base.lines), dict(base.files))
        self._merged.files |= {path: base.files.get(path, base.file) for path in base.lines}

    def result(self) -> Source:
        """The two as one source, under the name of the upper one."""
        self._merged.data = self._put(self._base.data, self._over.data, (), ())
        return self._merged

    def _put(self, base: Any, over: Any, path: FieldPath, written: FieldPath) -> Any:
        """The value at `path`, whose upper part is `written` at another one where it names positions of a list."""
        self._place(path, written)
        if isinstance(base, dict) and isinstance(over, dict) and not _is_other_kind(base, over):
            merged = dict(base)
            for name, value in over.items():
                if value is None and isinstance(base.get(name), dict | list):
                    del merged[name]
                else:
                    merged[name] = self._put(base.get(name), value, (*path, name), (*written, name))
            return merged
        if isinstance(base, list) and isinstance(over, dict) and over:
            return self._edited(base, over, path, written)
        self._replace(path, written)
        return over

    def _edited(self, base: list[Any], over: dict[str, Any], path: FieldPath, written: FieldPath) -> list[Any]:
        """The list with the items that a mapping names by position changed, and others added."""
        merged = list(base)
        for name, value in over.items():
            if name == APPEND and isinstance(value, list):
                for number, item in enumerate(value):
                    merged.append(self._put(None, item, (*path, len(merged)), (*written, name, number)))
            elif name.isdigit() and int(name) < len(base):
                merged[int(name)] = self._put(base[int(name)], value, (*path, int(name)), (*written, name))
            else:
                rule = (
                    f"names no position of a list of {len(base)}: give 0 to {len(base) - 1}, or {APPEND} with a list."
                )
                where = ".".join(map(str, (*path, name)))
                raise SpecError(self._over.file, [Problem(self._over.line((*written, name)), where, rule)])
        return merged

    def _place(self, path: FieldPath, written: FieldPath) -> None:
        self._merged.lines[path] = self._over.line(written)
        self._merged.files[path] = self._over.files.get(written, self._over.file)

    def _replace(self, path: FieldPath, written: FieldPath) -> None:
        """Forget the places of what was below `path`, and take over those of the upper source."""
        for old in [old for old in self._merged.lines if old[: len(path)] == path and old != path]:
            del self._merged.lines[old], self._merged.files[old]
        for new in self._over.lines:
            if new[: len(written)] == written:
                self._place(path + new[len(written) :], new)


def _is_other_kind(base: dict[str, Any], over: dict[str, Any]) -> bool:
    """Whether a component is named in place of one of another kind, whose fields it does not have."""
    return "kind" in over and "kind" in base and over["kind"] != base["kind"]
