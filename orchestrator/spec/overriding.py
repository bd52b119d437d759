"""`--set`: fields of a spec file that the command line sets, appends to or leaves out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import Problem, RequestError, SpecError
from orchestrator.spec.apply import NoSuchField, field_at, put
from orchestrator.spec.messages import dotted
from orchestrator.spec.yaml_source import FieldPath, Source, parse_yaml

OPTION = "--set"
FORMS = "PATH=VALUE sets a field, PATH+=VALUE appends an item to a list, PATH- leaves a field out"
"""What an override can be."""

_BRACKETS = r"""\[(?:"[^"]*"|'[^']*'|[^\]"']*)\]"""
_OVERRIDE = re.compile(rf"(?P<path>(?:[^=\[\]]|{_BRACKETS})+?)(?:(?P<operator>\+?=)(?P<value>.*)|-)", re.DOTALL)
_PART = re.compile(rf"(?:^|\.)(?P<name>[^.\[\]]+)|(?P<bracket>{_BRACKETS})")
_LONGEST = 60  # characters of an override in a message


@dataclass(frozen=True)
class Override:
    """One change of a spec."""

    text: str
    """As it was given."""
    path: tuple[str, ...]
    """Names and positions that lead to the field."""
    action: Literal["set", "append", "delete"]
    value: Any = None

    @staticmethod
    def parse(text: str) -> Override:
        """Read `PATH=VALUE`, `PATH+=VALUE` or `PATH-`. A name with dots stands in brackets.

        >>> Override.parse('search.space["defenses.0.max_area"].values=[0.5]').path
        ('search', 'space', 'defenses.0.max_area', 'values')

        Raises:
            RequestError: if it is none of these.
            SpecError: if the value is no YAML.
        """
        match = _OVERRIDE.fullmatch(text)
        parts = [] if match is None else list(_PART.finditer(match["path"]))
        if match is None or "".join(part[0] for part in parts) != match["path"]:
            raise RequestError(f"{_option(text)}: {FORMS}; for example --set prior.steps=500.")
        path = tuple(part["name"] or part["bracket"][1:-1].strip("\"'") for part in parts)
        if match["operator"] is None:
            return Override(text, path, "delete")
        return Override(text, path, "set" if match["operator"] == "=" else "append", _parsed(text, match["value"]))

    def apply(self, source: Source, anchor: Callable[[Any, Path], None]) -> None:
        """Change the data of a spec in place, and note that the field comes from this option.

        Args:
            anchor: makes the paths in data absolute, given the folder that they are relative to.

        Raises:
            SpecError: if there is no such field, or nothing can be appended to it.
        """
        try:
            match self.action:
                case "set":
                    put(source.data, self.path, self._anchored(self.value, anchor))
                    self._claim(source, _positions(source.data, self.path))
                case "append":
                    items = field_at(source.data, self.path)
                    if not isinstance(items, list):
                        raise NoSuchField(f"{dotted(self.path)} is no list: set it with =.")
                    items.append(self._anchored(self.value, anchor))
                    self._claim(source, (*_positions(source.data, self.path), len(items) - 1))
                case "delete":
                    field_at(source.data, self.path)
                    self._delete(source)
        except NoSuchField as error:
            raise SpecError(_option(self.text), [Problem(0, dotted(self.path), f"names no field: {error}")]) from error

    def _anchored(self, value: Any, anchor: Callable[[Any, Path], None]) -> Any:
        """The value with its paths made absolute: they are relative to the shell's folder."""
        inside = value
        for name in reversed(self.path):
            inside = {name: inside}
        anchor(inside, Path.cwd())
        for name in self.path:
            inside = inside[name]
        return inside

    def _claim(self, source: Source, path: FieldPath) -> None:
        """Have problems at a path, and in what was added around it, told of this option."""
        for old in [old for old in source.lines if old[: len(path)] == path]:
            del source.lines[old]
        for length in range(1, len(path) + 1):
            if path[:length] not in source.lines:
                source.lines[path[:length]] = 0
                source.files[path[:length]] = _option(self.text)

    def _delete(self, source: Source) -> None:
        *parents, last = _positions(source.data, self.path)
        outer = field_at(source.data, tuple(map(str, parents))) if parents else source.data
        for places in (source.lines, source.files):
            for path in [path for path in places if path[: len(parents) + 1] == (*parents, last)]:
                del places[path]
            if isinstance(outer, list):
                _close_gap(places, tuple(parents), int(last))
        del outer[last]


def _close_gap(places: dict[FieldPath, Any], around: FieldPath, gone: int) -> None:
    """Move what is noted of the items of a list behind the deleted one, `gone`, to their new positions."""
    depth = len(around)
    inside = {path: place for path, place in places.items() if len(path) > depth and path[:depth] == around}
    for path in inside:
        del places[path]
    for path, place in inside.items():
        position = int(path[depth])
        places[(*around, position - (position > gone), *path[depth + 1 :])] = place


def _positions(data: Any, path: tuple[str, ...]) -> FieldPath:
    """A path with numbers where it leads into lists, as places are noted."""
    positions: list[str | int] = []
    for part in path:
        positions.append(int(part) if isinstance(data, list) else part)
        data = data[positions[-1]]
    return tuple(positions)


def _parsed(text: str, value: str) -> Any:
    """Parse a value by the rules of a spec file."""
    try:
        return parse_yaml(f"value:\n{textwrap.indent(value, '  ')}", Path(OPTION)).data["value"]
    except (SpecError, RecursionError) as error:
        raise SpecError(_option(text), [Problem(0, "", f"not a YAML value: {value!r}.")]) from error


def _option(text: str) -> str:
    """An option as it was given, cut short."""
    return f"{OPTION} {text if len(text) <= _LONGEST else f'{text[: _LONGEST - 3]}...'}"
