"""A spec with values put at dotted paths: what a search varies and what `--set` overrides."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.spec.messages import did_you_mean
from orchestrator.spec.model import Spec

APPLICABLE = frozenset({"data", "target", "defenses", "evaluation", "prior", "attacks"})
"""Sections that determine results, and so may be searched over."""


class NoSuchField(LookupError):
    """A dotted path that leads nowhere."""


def field_at(data: Any, path: str, *, at: Sequence[str] = ()) -> Any:
    """The value at a dotted path into plain data, which itself stands `at` a path of the spec.

    Raises:
        NoSuchField: if there is none, saying how far the path leads and what is there.
    """
    walked = list(at)
    for part in path.split("."):
        known = (
            list(data)
            if isinstance(data, dict)
            else [str(index) for index in range(len(data))]
            if isinstance(data, list)
            else []
        )
        if part not in known:
            where = ".".join(walked) or "the spec"
            there = f"has {', '.join(known)}" if known else "has no fields"
            raise NoSuchField(f"{where} {there}, not {part!r}.{did_you_mean(part, known)}")
        data = data[int(part)] if isinstance(data, list) else data[part]
        walked.append(part)
    return data


def put(data: Any, path: str, value: Any) -> None:
    """Set the value at a dotted path in place; sections that are not there are added, for validation to judge.

    Raises:
        NoSuchField: if the path leads through a value that has no fields, or to an item a list does not have.
    """
    *parents, last = path.split(".")
    for depth, part in enumerate(parents):
        data = data.setdefault(part, {}) if isinstance(data, dict) else field_at(data, part, at=parents[:depth])
    if isinstance(data, dict):
        data[last] = value
    else:
        field_at(data, last, at=parents)
        data[int(last)] = value


def applied(spec: Spec, params: Mapping[str, Any]) -> Spec:
    """The spec of one point: `params` put in, everything checked again.

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
    """The same spec without any defense: the baseline."""
    return spec.model_copy(update={"defenses": ()})
