"""Problems that pydantic reports, each in one line: the value, the rule and the way out."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from orchestrator.errors import AtField, Problem
from orchestrator.spec.hints import as_fraction, did_you_mean, way_out
from orchestrator.spec.yaml_source import FieldPath, Source
from workloads.core.registry import Registry

_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of fields",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "finite_number": "a finite number",
}


def problems_of(error: ValidationError, source: Source, model: type[BaseModel]) -> list[Problem]:
    """All problems of a refused spec, each with its line."""
    problems = []
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # pydantic counts valid items only, and each invalid one has a line of its own
        if details["type"] == "default_factory_not_called":
            continue  # a default that depends on a field whose own problem is listed
        path = _without_tags(details["loc"], source.data)
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, AtField):
            path += cause.path
        problems.append(source.problem(path, message_of(details, model)))
    return problems


def dotted(path: FieldPath) -> str:
    """A path as people write it, such as `defenses.0.max_area`."""
    return ".".join(map(str, path))


def message_of(details: ErrorDetails, model: type[BaseModel]) -> str:
    """Say one of pydantic's problems in plain words: the rule, the value, and the way out if there is one."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        fields = sorted(_fields_at(model, details["loc"][:-1]))
        near = did_you_mean(name, fields) or _elsewhere(name, model, details["loc"])
        return f"unknown field.{near} Fields: {', '.join(fields)}."
    if kind == "union_tag_invalid":
        tags = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
        tag = str(context["tag"])
        return f"unknown kind {tag!r}.{did_you_mean(tag, tags)} Available: {', '.join(tags)}."
    if kind == "union_tag_not_found":
        return "has no kind: add `kind:` with one of those that `midre list` shows."
    if kind == "missing":
        return "is missing: add it."
    if kind == "value_error":
        return f"{context['error']}."
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, got {_shown(value)}.{as_fraction(value, context[bound])}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}, got {_shown(value)}.{way_out(kind, value)}"
    if kind == "literal_error":
        near = did_you_mean(value, re.findall("'([^']*)'", context["expected"])) if isinstance(value, str) else ""
        return f"must be one of {context['expected']}, got {_shown(value)}.{near}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}, got {_shown(value)}."
    if kind == "too_short":
        least = context["min_length"]
        return f"needs at least {least} item{'s' * (least != 1)}, got {context['actual_length']}."
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {_shown(value)}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_tags(loc: tuple[str | int, ...], data: Any) -> FieldPath:
    """A location that pydantic reports without its union tags, so that it is a path into the data."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        if isinstance(part, str) and part.startswith("<"):
            continue  # a tag of a union that has no kind
        if isinstance(data, dict) and isinstance(part, str):
            last = position == len(loc) - 1
            if part not in data and (not last or data.get("kind") == part):
                continue  # a tag
            path.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            path.append(part)
            data = data[part]
        elif isinstance(part, int):
            path.append(part)
    return tuple(path)


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    """Names of the fields of the model at a location that pydantic reports."""
    here: Any = model
    registry: Registry[Any, Any] | None = None
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            field = here.model_fields[str(part)]
            here, registry = _without_none(field.annotation), _registry_in(field)
        elif isinstance(part, int):
            continue
        elif part.startswith("<"):
            here = _tagged(here, part)
        elif registry is not None:
            here = registry.config_of(str(part))
        else:
            members = [arg for arg in _nested(here) if isinstance(arg, type) and issubclass(arg, BaseModel)]
            of_kind = [
                arg for arg in members if "kind" in arg.model_fields and arg.model_fields["kind"].default == part
            ]
            here = next(iter(of_kind or members), here)
    return set(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else set()


def _elsewhere(name: str, model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Which section has a field that stands beside the sections, such as `seeds`; empty for any other field."""
    if len(loc) != 1:
        return ""
    sections = {section: _fields_at(model, (section,)) for section in model.model_fields}
    for place in [(section, inner) for section, fields in sections.items() for inner in fields]:
        sections[".".join(place)] = _fields_at(model, place)
    having = [section for section, fields in sections.items() if name in fields]
    return f" {' and '.join(having)} {'has' if len(having) == 1 else 'have'} one." if having else ""


def _tagged(annotation: Any, name: str) -> Any:
    """The model with this tag in a union."""
    parts = [annotation, *_nested(annotation)]
    return next(get_args(part)[0] for part in parts if any(mark == Tag(name) for mark in get_args(part)[1:]))


def _without_none(annotation: Any) -> Any:
    """The one type that is there if it is not None; anything else unchanged."""
    others = [arg for arg in get_args(annotation) if arg is not type(None)]
    return others[0] if len(others) == 1 and type(None) in get_args(annotation) else annotation


def _registry_in(field: FieldInfo) -> Registry[Any, Any] | None:
    marks = [*field.metadata, *(arg for arg in _nested(field.annotation))]
    return next((mark for mark in marks if isinstance(mark, Registry)), None)


def _nested(annotation: Any) -> list[Any]:
    """All parts of an annotation, including those of its parts."""
    parts: list[Any] = []
    for arg in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        parts += [arg, *_nested(arg)]
    return parts
