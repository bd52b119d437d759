"""Frozen configuration: the base of every spec and component, its canonical JSON and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

LISTED = Field(strict=False)
"""For tuples in a model that fills in a preset first: what it hands on is Python, where JSON's lists stay lists."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class Location:
    """Marks a field that says where something lies, not what it is: it never enters a key."""


class Preset:
    """Marks a field that fills in others, where not given, as a config is read: changed later it changes nothing."""


class Addition:
    """Marks a field younger than kept results: at its default it enters no key, so that they are found again."""


class FrozenConfig(BaseModel):
    """Plain data: unknown fields are refused, nothing is coerced, no value is NaN or infinite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # a schema is built when it is used: planning does not wait for those it never needs
    )


class ComponentConfig(FrozenConfig):
    """The settings of one registered component; `kind` says which."""

    version: ClassVar[int] = 1
    """Raised whenever the same settings come to give other numbers, so that old results are not reused."""

    kind: str


def with_preset(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, over the fields of a preset: for a model validator that runs before the fields' own.

    Such a validator hands on Python, where JSON's lists are no tuples as configs hold them; so they become some.
    """
    return {**preset, **{name: _tupled(value) for name, value in given.items()}}


def _tupled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tupled(own) for name, own in value.items()}
    return tuple(_tupled(own) for own in value) if isinstance(value, list) else value


def content(value: Any) -> Any:
    """What determines a result: all fields but locations, each component stamped with its version, as plain data."""
    if isinstance(value, FrozenConfig):
        fields = {
            name: content(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if _determines(field, getattr(value, name))
        }
        return fields | {"version": value.version} if isinstance(value, ComponentConfig) else fields
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    return value


def _determines(field: FieldInfo, value: Any) -> bool:
    """Whether a field with this value has a part in results."""
    marks = {type(mark) for mark in field.metadata}
    return Location not in marks and not (Addition in marks and value == field.default)


def canonical_json(value: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, shortest floats.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def first_problem(error: ValidationError) -> str:
    """The first problem of a refused config, as one line."""
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
