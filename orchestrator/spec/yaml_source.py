"""YAML as plain data with the line of every field; nothing in the text can build an object or explode."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import Problem, SpecError

MOST_NODES = 20_000
"""More values than a real spec has. Aliases inside aliases reach it before they fill the memory."""
MOST_LEVELS = 50
"""Deeper than a real spec is nested. A list inside itself reaches it at once."""
STANDARD_TAG = "tag:yaml.org,2002:"
TOO_DEEP = "values are nested too deeply: write it flatter."

FieldPath = tuple[str | int, ...]
"""The names and positions that lead from a spec to a field."""


@dataclass
class Source:
    """A spec file as plain data, with the line of each field."""

    file: str
    """Its path, as the user gave it."""
    data: Any
    """Its mappings, lists and values."""
    lines: dict[FieldPath, int] = field(default_factory=dict)
    """The line of each field and value, counted from 1; 0 for what an option of the command line sets."""
    files: dict[FieldPath, str] = field(default_factory=dict)
    """The file of each field and value that stands in one which this spec extends, or the option that sets it."""

    def line(self, path: FieldPath) -> int:
        """Line of a field, or of the nearest one around it; 0 if there is none."""
        return self.lines.get(self._nearest(path), 0)

    def problem(self, path: FieldPath, message: str) -> Problem:
        """A problem of a field, at its place; that of a section is blamed on an option that sets a part of it."""
        options = [place for place in self.files if place[: len(path)] == path and not self.lines.get(place)]
        place = options[0] if options else self._nearest(path)
        return Problem(self.lines.get(place, 0), ".".join(map(str, path)), message, self.files.get(place, ""))

    def _nearest(self, path: FieldPath) -> FieldPath:
        while path and path not in self.lines:
            path = path[:-1]
        return path


def read_yaml(file: Path) -> Source:
    """Read a YAML file.

    Raises:
        SpecError: if it is missing, not UTF-8, not YAML, empty, has a duplicate key, an object tag or too many nodes.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(file, 0, f"not UTF-8 at byte {error.start}: save the file as UTF-8.") from error
    except FileNotFoundError as error:
        raise _refused(file, 0, "no such file: give the path of a spec.") from error
    except IsADirectoryError as error:
        rule = f"a folder, where a spec is asked for: `midre new --data {file}` writes one for images in it."
        raise _refused(file, 0, rule) from error
    except OSError as error:
        raise _refused(file, 0, f"cannot be read: {error.strerror}.") from error
    try:
        return parse_yaml(text, file)
    except RecursionError as error:
        raise _refused(file, 0, TOO_DEEP) from error


def parse_yaml(text: str, file: Path) -> Source:
    """Parse YAML text from `file`; raises as `read_yaml` does."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        is_tab = "'\\t'" in str(error.problem)
        problem = "a tab: YAML indents with blanks" if is_tab else error.problem
        raise _refused(file, line, f"not valid YAML: {problem}.") from error
    except yaml.YAMLError as error:
        raise _refused(file, 0, f"not valid YAML: {str(error).partition(chr(10))[0]}.") from error
    if root is None:
        raise _refused(file, 0, "the file is empty: start from specs/quickstart.yaml.")
    source = Source(str(file), None)
    source.data = _Reader(file, source.lines).value(root, ())
    if not isinstance(source.data, dict):
        raise _refused(file, 1, "a spec is a mapping of fields, like `name: my-sweep`.")
    return source


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does. In YAML 1.1, which PyYAML reads, it is text."""


_Loader.add_implicit_resolver(
    f"{STANDARD_TAG}float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Reader:
    """Turns the node graph into plain data, and counts its values."""

    def __init__(self, file: Path, lines: dict[FieldPath, int]) -> None:
        self._file, self._lines, self._nodes = file, lines, 0
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        """The plain data of a node at `path`; notes its line."""
        self._nodes += 1
        if len(path) > MOST_LEVELS:
            raise _refused(self._file, 0, TOO_DEEP)
        if self._nodes > MOST_NODES:
            raise _refused(self._file, 0, f"more than {MOST_NODES} values once its aliases are followed: write it out.")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{STANDARD_TAG}seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        if node.tag != f"{STANDARD_TAG}map":
            raise self._tag(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(self._file, line, "a field name must be a word, not a list or a mapping.")
            key = str(key_node.value)
            if key == "<<":
                raise _refused(self._file, line, "merge keys (<<) are not supported: write the fields out.")
            if key in result:
                raise _refused(self._file, line, f"{key!r} is given twice: remove one.")
            self._lines[(*path, key)] = line
            result[key] = self.value(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(STANDARD_TAG)
        match kind:
            case "null" | "bool" | "int" | "float":
                try:
                    return self._scalars.construct_object(node)
                except ValueError as error:
                    line = node.start_mark.line + 1
                    raise _refused(self._file, line, f"{node.value!r} is not a valid {kind}.") from error
            case "str" | "timestamp":
                return node.value
        raise self._tag(node)

    def _tag(self, node: yaml.Node) -> SpecError:
        line = node.start_mark.line + 1
        tag = node.tag.replace(STANDARD_TAG, "!!")
        return _refused(self._file, line, f"the tag {tag!r} would build an object: a spec holds plain data only.")


def _refused(file: Path, line: int, message: str) -> SpecError:
    return SpecError(str(file), [Problem(line, "", message)])
