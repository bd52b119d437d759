"""Frozen configuration: the base of every spec and component, its canonical JSON and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from workloads.core.field_docs import field_descriptions
from workloads.core.plugins import origin

ACCEPTS_LISTS = Field(strict=False)
"""For a tuple field of a config with a preset: its validator returns Python objects, where JSON's lists stay lists."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Beta = Annotated[float, Field(ge=0, lt=1)]
"""A decay rate of Adam's moments."""

Epochs = Annotated[int, Field(gt=0, le=100_000)]
"""Passes over the training images."""
Steps = Annotated[int, Field(gt=0, le=100_000_000)]
"""Steps of an optimisation."""
BatchSize = Annotated[int, Field(gt=0, le=65_536)]
"""Images per batch."""


class Location:
    """Marks a field that says where something lies, not what it is: it never enters a key."""


class Handling:
    """Marks a field that says how carefully something is asked, not what: it never enters a key."""


class Preset:
    """Marks a field that fills in the unset others while a config is read; changing it later has no effect."""


class Addition:
    """Marks a field added after results were stored. At its default it is left out of the key, so old results match."""


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

    @property
    def revision(self) -> int | None:
        """Version of the numbers that these settings give, which is part of the key; None leaves it out."""
        return None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each field by the string below it; pydantic's own setting would parse every module at import."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, description in field_descriptions(cls).items():
            if name in properties:
                properties[name].setdefault("description", description)
        return schema


class PickedConfig(FrozenConfig):
    """Settings of something that users pick by name from a registry; `kind` is that name."""

    publication: ClassVar[str] = ""
    """Where it is published, and so where its defaults come from: what the component's class says under "Source:"."""

    kind: str
    """Name of the component, which is that of its file."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say where it is published, beside what each field means."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        if cls.publication:
            handler.resolve_ref_schema(schema)["source"] = cls.publication
        return schema


class ComponentConfig(PickedConfig):
    """Settings of a component that results depend on."""

    version: ClassVar[int] = 1
    """Raised whenever the same settings come to give other numbers, so that old results are not reused."""

    @property
    def revision(self) -> int:
        """The version; a component whose numbers changed for some settings alone raises it for those."""
        return self.version


def with_preset(preset: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """Put settings over the fields of a preset, for a "before" validator of a model.

    Such a validator returns Python objects; lists are turned into tuples because strict mode accepts nothing else.
    """
    return {**preset, **{name: _with_tuples(value) for name, value in settings.items()}}


def _with_tuples(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


def content(value: object) -> Any:
    """Return what determines a result, as plain data.

    That is all fields but locations, the version of each component, and the package of those that are not midre's.
    """
    if isinstance(value, FrozenConfig):
        fields = {
            name: content(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if _determines_results(field, getattr(value, name))
        }
        package = origin(type(value))
        fields |= {} if package is None else {"package": package}
        return fields if value.revision is None else fields | {"version": value.revision}
    if isinstance(value, dict):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    return value


def plugins_in(value: object) -> frozenset[str]:
    """The distributions, other than midre, whose components a config names, such as `midre-example==1.0`."""
    if isinstance(value, FrozenConfig):
        package = origin(type(value))
        nested = plugins_in([getattr(value, name) for name in type(value).model_fields])
        return nested if package is None else nested | {package}
    if isinstance(value, dict):
        return plugins_in(list(value.values()))
    return frozenset().union(*map(plugins_in, value)) if isinstance(value, (list, tuple)) else frozenset()


def _determines_results(field: FieldInfo, value: object) -> bool:
    if is_marked(field, Location) or is_marked(field, Handling):
        return False
    return not (is_marked(field, Addition) and value == field.default)


def is_marked(field: FieldInfo, mark: type) -> bool:
    """Whether a field is declared with this mark, as in `path: Annotated[str, Location()]`."""
    return any(isinstance(entry, mark) for entry in field.metadata)


def canonical_json(value: object) -> str:
    """Write plain data as its one JSON text: sorted keys, no spaces, shortest floats.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def first_problem(error: ValidationError) -> str:
    """Say in one line which field of a refused config comes first, and what is wrong with it."""
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
