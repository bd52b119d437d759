"""What a spec can say, by dotted path: fields with their types, ranges, defaults and meaning, from the JSON Schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.errors import RequestError
from orchestrator.spec.hints import did_you_mean
from orchestrator.spec.model import Spec

ROOMS = {
    "attacks": "attacks",
    "datasets": "data.private",
    "defenses": "defenses",
    "metrics": "metrics",
    "models": "target.model",
    "priors": "prior",
    "samplers": "search.sampler",
}
"""Where in a spec the components of a room are named."""
WHOLE = "spec"
"""The path of all of a spec."""
REQUIRED = "required"
_SHOWN_KINDS = 4  # in the type of a field
_NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_BOUNDS = {
    "minimum": "at least {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "at most {:g}",
    "exclusiveMaximum": "below {:g}",
}
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """One field of a section or a component."""

    name: str
    type: str
    """What it takes, in words: type, range, choices."""
    default: str
    """Its default as YAML, or `required`."""
    description: str


@dataclass(frozen=True)
class Entry:
    """What stands at a path: a section, a component or a single field."""

    path: str
    """The path in a spec, such as `defenses.random_erasing`; kinds stand where a spec has an index or nothing."""
    field: Field
    """The entry itself as a field of what is around it."""
    fields: tuple[Field, ...] = ()
    """Its fields, if it has any."""
    kinds: tuple[str, ...] = ()
    """The kinds to choose from, if it names a component."""
    kind: str | None = None
    """The kind, if it is a component."""
    source: str = ""
    """Where the component is published that it is, or belongs to; empty for none."""


class Reference:
    """The JSON Schema of a spec, looked up by path."""

    def __init__(self) -> None:
        self._root: Schema = Spec.model_json_schema()

    def entry(self, path: str) -> Entry:
        """Look up a path, such as `attacks.ppa`, `defenses.random_erasing.fill` or `search.seeds`.

        It may begin with a room, such as `models.resnet`; `spec` is all of a spec.

        Raises:
            RequestError: if nothing stands there, with what does.
        """
        first, _, rest = path.partition(".")
        names = [] if path == WHOLE else f"{ROOMS.get(first, first)}{'.' if rest else ''}{rest}".split(".")
        node, name, kind, is_required, source = self._root, WHOLE, None, False, ""
        for position, name in enumerate(names):
            around, choices = node, self._choices(node)
            if name not in choices:
                where = ".".join(names[:position]) or "a spec"
                raise RequestError(
                    f"{path}: {where} has no {name!r}.{did_you_mean(name, choices)} There: {', '.join(choices)}."
                )
            node = choices[name]
            kind = name if name in self._kinds(around) else None
            is_required = name in _required(self._resolved(around))
            source = self._resolved(node).get("source", "") if kind else source
        resolved = self._resolved(node)
        field = Field(name, self._type(node), self._default(node, is_required), _words(node, resolved))
        fields = self._all_fields(node) if kind else self._fields(node)
        return Entry(".".join(names) or WHOLE, field, tuple(fields), tuple(self._kinds(node)), kind, source)

    def sections(self) -> Iterator[Entry]:
        """All of a spec, and every section in it that is no component."""
        paths = [WHOLE]
        while paths:
            entry = self.entry(paths.pop(0))
            yield entry
            start = "" if entry.path == WHOLE else f"{entry.path}."
            paths += [f"{start}{field.name}" for field in entry.fields if self._has_fields(f"{start}{field.name}")]

    def _has_fields(self, path: str) -> bool:
        return bool(self.entry(path).fields)

    def components(self) -> Iterator[Entry]:
        """Every component of every room."""
        for room in ROOMS:
            for kind in self.entry(room).kinds:
                yield self.entry(f"{room}.{kind}")

    def snippet(self, entry: Entry) -> str:
        """The part of a spec that names a component, with all of its defaults but null."""
        assert entry.kind is not None
        settings = {
            field.name: "..." if field.default == REQUIRED else yaml.safe_load(field.default)
            for field in entry.fields
            if field.default not in ("null", entry.kind) and "." not in field.name
        }
        part: Any = {"kind": entry.kind, **settings}
        for name in reversed(entry.path.split(".")[:-1]):
            part = {name: [part] if name in ("attacks", "defenses", "metrics") else part}
        return yaml.safe_dump(part, sort_keys=False, width=100)

    def _fields(self, node: Schema) -> Iterator[Field]:
        """Fields of the sections that may stand at a node or in its items; those that several sorts have, once."""
        fields: dict[str, Field] = {}
        for section in self._sections(node):
            for name, below in section["properties"].items():
                words = _words(below, self._resolved(below))
                field = Field(name, self._type(below), self._default(below, name in _required(section)), words)
                fields.setdefault(name, field)
        yield from fields.values()

    def _all_fields(self, node: Schema) -> Iterator[Field]:
        """Fields of a component, each followed by those of the sections in it, by dotted path."""
        for section in self._sections(node):
            for field in self._fields(section):
                yield field
                below = self._all_fields(section["properties"][field.name])
                yield from (dataclasses.replace(inner, name=f"{field.name}.{inner.name}") for inner in below)

    def _sections(self, node: Schema) -> Iterator[Schema]:
        """The sections that may stand at a node or in its items, but for those of components to choose from."""
        node = self._resolved(node)
        if "properties" in node:
            yield node
        for inner in (*_alternatives(node), *([node["items"]] if "items" in node else ())):
            yield from self._sections(inner)

    def _choices(self, node: Schema) -> dict[str, Schema]:
        """What a path may go on with, by name: fields of a section, kinds, or either in the items of a list."""
        node = self._resolved(node)
        choices: dict[str, Schema] = dict(node.get("properties", {}))
        choices |= {kind: {"$ref": pointer} for kind, pointer in _mapping(node).items()}
        for inner in (*_alternatives(node), *([node["items"]] if "items" in node else ())):
            choices |= self._choices(inner)
        return choices

    def _kinds(self, node: Schema) -> list[str]:
        """Kinds of the components that may stand at a node or in its items."""
        node = self._resolved(node)
        kinds = list(_mapping(node))
        for inner in (*_alternatives(node), *([node["items"]] if "items" in node else ())):
            kinds += self._kinds(inner)
        return kinds

    def _resolved(self, node: Schema) -> Schema:
        """The node that a reference leads to, or the node itself."""
        while "$ref" in node:
            node = self._root["$defs"][node["$ref"].rpartition("/")[2]]
        return node

    def _type(self, node: Schema) -> str:
        """What a node takes, in words."""
        node = self._resolved(node)
        if "const" in node:
            return str(node["const"])
        if "enum" in node:
            return f"one of {', '.join(map(str, node['enum']))}"
        if kinds := list(_mapping(node)):
            return f"a kind: {', '.join(kinds[:_SHOWN_KINDS])}{', ...' if len(kinds) > _SHOWN_KINDS else ''}"
        if alternatives := _alternatives(node):
            return " or ".join(dict.fromkeys(self._type(inner) for inner in alternatives))
        if "prefixItems" in node:
            return f"list of: {'; '.join(self._type(inner) for inner in node['prefixItems'])}"
        if "items" in node:
            return f"list of: {self._type(node['items'])}"
        bounds = [words.format(node[bound]) for bound, words in _BOUNDS.items() if bound in node]
        return ", ".join([_NAMES.get(node.get("type", ""), "a section"), *bounds])

    @staticmethod
    def _default(node: Schema, is_required: bool) -> str:
        if is_required or "default" not in node:
            return REQUIRED if is_required else ""
        text = yaml.safe_dump(node["default"], default_flow_style=True, width=10_000, sort_keys=False)
        return text.removesuffix("...\n").strip()


def _required(node: Schema) -> Sequence[str]:
    """Fields that a section must have; those of a spec, unless it extends another."""
    required: Sequence[str] = node.get("required") or node.get("else", {}).get("required", ())
    return required


def _alternatives(node: Schema) -> list[Schema]:
    """What may stand at a node, where that is one of several types and not one of several kinds."""
    return [] if _mapping(node) else [*node.get("anyOf", ()), *node.get("oneOf", ())]


def _mapping(node: Schema) -> Mapping[str, str]:
    """Kinds of a union of components, with the places of their schemas."""
    mapping: Mapping[str, str] = node.get("discriminator", {}).get("mapping", {})
    return mapping


def _words(node: Schema, resolved: Schema) -> str:
    """The description of a field, or of what it holds."""
    return " ".join(str(node.get("description") or resolved.get("description", "")).split())
