"""Every field of every component and of the spec is described in the JSON schema, which is what editors show."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.spec.model import Spec
from workloads.core.config import FrozenConfig


def test_every_field_says_what_it_is() -> None:
    schema = Spec.model_json_schema()
    undescribed = {
        f"{name}.{field}"
        for name, definition in {"Spec": schema, **schema["$defs"]}.items()
        for field, entry in definition.get("properties", {}).items()
        if not entry.get("description")
    }
    assert not undescribed, "write a string below these fields"


def test_every_component_of_a_publication_names_it() -> None:
    definitions = {
        entry["properties"]["kind"]["const"]: entry
        for entry in Spec.model_json_schema()["$defs"].values()
        if "const" in entry.get("properties", {}).get("kind", {})
    }
    sourced = {kind for kind, entry in definitions.items() if entry.get("source")}
    assert {"gmi", "random_erasing", "stylegan2", "resnet", "fid", "lfw"} <= sourced
    assert definitions["cutout"]["source"].startswith("DeVries and Taylor, ")


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
