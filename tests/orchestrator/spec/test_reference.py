"""What a spec can say, looked up by path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
import yaml
from pydantic import BaseModel

from orchestrator.errors import RequestError
from orchestrator.spec.reference import REQUIRED, ROOMS, Entry, Field, Reference
from tests.support.components import REGISTRIES, config_for

REFERENCE = Reference()
COMPONENTS = {entry.path: entry for entry in REFERENCE.components()}


def test_a_field_has_type_range_default_and_meaning() -> None:
    entry = REFERENCE.entry("defenses.random_erasing.max_area")
    assert entry.path == "defenses.random_erasing.max_area"
    assert entry.field == Field(
        name="max_area",
        type="number, above 0, at most 1",
        default="0.4",
        description="Largest erased fraction of the image; the fraction is drawn uniformly between the two.",
    )
    assert (entry.fields, entry.kinds, entry.kind) == ((), (), None)


@pytest.mark.parametrize(
    ("path", "takes", "default"),
    [
        ("search.seeds", "list of: whole number", "[0]"),
        ("target.training.schedule", "one of constant, cosine, step, one_cycle", "constant"),
        ("attacks.gmi.steps", "whole number, above 0, at most 1e+08", "1500"),
        ("attacks.gmi.identities", "whole number, above 0 or a section or list of: text or all or null", "null"),
        ("priors.wgan_gp.betas", "list of: number, at least 0, below 1; number, at least 0, below 1", "[0.5, 0.999]"),
        ("storage.runs", "text or null", "null"),
        ("name", "text", REQUIRED),
    ],
)
def test_types_and_defaults_in_words(path: str, takes: str, default: str) -> None:
    field = REFERENCE.entry(path).field
    assert (field.type, field.default) == (takes, default)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "samplers"])
def test_every_component_has_an_entry(room: str) -> None:
    paths = {f"{ROOMS[room]}.{kind}" for kind in REGISTRIES[room].kinds()}
    assert paths <= set(COMPONENTS)
    assert REFERENCE.entry(room).kinds == REGISTRIES[room].kinds()


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "samplers"])
def test_snippets_are_parts_of_specs_with_the_defaults_of_each_component(room: str) -> None:
    for kind in REGISTRIES[room].kinds():
        defaults = config_for(REGISTRIES[room], kind)
        settings = part_of(COMPONENTS[f"{ROOMS[room]}.{kind}"])
        required = {name: value for name, value in settings.items() if value == "..."}
        assert set(required) == {
            name for name, field in type(defaults).model_fields.items() if field.is_required() and name != "kind"
        }
        read = type(defaults).model_validate_json(json.dumps({**settings, **plain(defaults, required)}))
        assert read == defaults


def part_of(entry: Entry) -> dict[str, object]:
    """The settings of the component that a snippet names."""
    part = yaml.safe_load(REFERENCE.snippet(entry))
    for name in entry.path.split(".")[:-1]:
        part = part[name]
        part = part[0] if isinstance(part, list) else part
    assert isinstance(part, dict)
    return part


def plain(config: BaseModel, names: Mapping[str, object]) -> dict[str, object]:
    """Fields of a config as JSON has them."""
    values = config.model_dump(mode="json")
    return {name: values[name] for name in names}


def test_a_section_that_may_be_left_out_has_its_fields() -> None:
    training = {field.name for field in REFERENCE.entry("target.training").fields}
    assert {"epochs", "lr", "augmentation"} <= training
    assert [field.name for field in REFERENCE.entry("search.objectives").fields] == ["metric", "goal"]


def test_sections_of_a_component_stand_beside_its_own_fields() -> None:
    names = [field.name for field in COMPONENTS["attacks.gmi"].fields]
    assert names[names.index("identities") + 1] == "identities.count"


def test_every_section_and_component_says_what_each_field_means() -> None:
    entries = [*REFERENCE.sections(), *COMPONENTS.values()]
    assert {"spec", "data.split", "target.training.augmentation", "resources.run_attack"} <= {
        entry.path for entry in entries
    }
    assert [f"{entry.path}.{field.name}" for entry in entries for field in entry.fields if not field.description] == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("defenses.random_erasing.fil", "defenses.random_erasing has no 'fil'. Did you mean 'fill'? There: kind, prob"),
        ("attacks.gmii", "attacks has no 'gmii'. Did you mean 'gmi'? There: battery, brepmi"),
        ("datta", "a spec has no 'datta'. Did you mean 'data'? There: "),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(path: str, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(f'{path}: {message}')}"):
        REFERENCE.entry(path)
