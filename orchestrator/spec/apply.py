"""A spec with values put at dotted paths, as a search and `--set` do."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.spec.hints import did_you_mean
from orchestrator.spec.model import Spec
from workloads.core.config import FrozenConfig

SEARCHABLE = frozenset({"data", "target", "defenses"})
"""Sections whose fields a search can vary."""
PROTOCOL = frozenset({"evaluation", "prior", "attacks", "metrics"})
"""Sections that say how points are attacked and measured. Were they to vary, a weak attack would pass for a defense."""


class NoSuchField(LookupError):
    """A dotted path that leads to no field."""


def field_at(data: Any, path: str | Sequence[str], *, at: Sequence[str] = ()) -> Any:
    """The value at a dotted path, or its parts, into plain data, which itself stands `at` a path of the spec.

    Raises:
        NoSuchField: if there is none, with how far the path leads and which fields are there.
    """
    walked = list(at)
    for part in _parts(path):
        names = _names(data)
        if part not in names:
            where = ".".join(walked) or "the spec"
            there = f"has {', '.join(names)}" if names else "has no fields"
            raise NoSuchField(f"{where} {there}, not {part!r}.{did_you_mean(part, names)}")
        data = data[int(part)] if isinstance(data, list) else data[part]
        walked.append(part)
    return data


def _parts(path: str | Sequence[str]) -> Sequence[str]:
    return path.split(".") if isinstance(path, str) else path


def _names(data: Any) -> list[str]:
    """What can follow in a dotted path: keys of a mapping, positions in a list."""
    if isinstance(data, dict):
        return list(data)
    return [str(index) for index in range(len(data))] if isinstance(data, list) else []


def model_at(spec: Spec, path: str) -> FrozenConfig | None:
    """The config at a dotted path, or the spec if the path is empty; None if something else is there."""
    value: object = spec
    for part in path.split(".") if path else ():
        value = value[int(part)] if isinstance(value, tuple) else getattr(value, part, None)
    return value if isinstance(value, FrozenConfig) else None


def put(data: Any, path: str | Sequence[str], value: Any) -> None:
    """Set the value at a dotted path, or its parts, in place.

    Sections that are not there are added, and left to validation.

    Raises:
        NoSuchField: if the path leads through a value that has no fields, or to an item a list does not have.
    """
    *parents, last = _parts(path)
    for depth, part in enumerate(parents):
        data = _section(data, part) if isinstance(data, dict) else field_at(data, part, at=parents[:depth])
    if isinstance(data, dict):
        data[last] = value
    else:
        field_at(data, last, at=parents)
        data[int(last)] = value


def _section(data: dict[str, Any], name: str) -> Any:
    """The section of this name, which is added if it is missing or `auto`, which sets nothing."""
    if data.get(name) == "auto":
        data[name] = {}
    return data.setdefault(name, {})


def applied(spec: Spec, params: Mapping[str, Any]) -> Spec:
    """The spec of one point: `params` are put in, and everything is validated again.

    Raises:
        ValidationError: if a field refuses its value.
    """
    if not params:
        return spec
    data = copy.deepcopy(spec.plain())
    for path, value in params.items():
        put(data, path, value)
    return Spec.model_validate_json(json.dumps(data))


def undefended(spec: Spec) -> Spec:
    """The spec of the baseline: the same without any defense."""
    return spec.model_copy(update={"defenses": ()})
