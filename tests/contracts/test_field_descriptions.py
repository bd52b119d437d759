"""Every field of every component and of the spec is described in the JSON schema, which is what editors show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.spec.model import Spec
from workloads.core.config import FrozenConfig

MISSING = {"workloads/defenses", "workloads/recipes"}
"""Rooms that have fields without a description; it may only shrink."""


def subclasses(config: type[FrozenConfig]) -> Iterator[type[FrozenConfig]]:
    for subclass in config.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_every_field_says_what_it_is() -> None:
    schema = Spec.model_json_schema()
    rooms = {config.__name__: "/".join(config.__module__.split(".")[:2]) for config in subclasses(FrozenConfig)}
    undescribed = {
        f"{rooms.get(name, '')}: {name}.{field}"
        for name, definition in {"Spec": schema, **schema["$defs"]}.items()
        for field, entry in definition.get("properties", {}).items()
        if not entry.get("description")
    }
    assert {text for text in undescribed if text.partition(":")[0] not in MISSING} == set()
    assert {text.partition(":")[0] for text in undescribed} == MISSING, "take these rooms off the list"


class Base(FrozenConfig):
    """A config with documented fields."""

    kind: str
    """Name of the component."""
    size: int = 1
    """Pixels a side,
    of a square."""
    depth: Annotated[int, Field(description="Layers.")] = 2
    """Not this one."""


class Derived(Base):
    """Declares a field of its base again, without a string."""

    kind: Literal["derived"] = "derived"


def test_a_description_is_the_string_below_the_field_or_below_that_of_a_base_class() -> None:
    descriptions = {name: entry["description"] for name, entry in Derived.model_json_schema()["properties"].items()}
    assert descriptions == {
        "kind": "Name of the component.",
        "size": "Pixels a side, of a square.",
        "depth": "Layers.",
    }
