"""The specs that ship: each is valid, and the schema beside them is that of today's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.spec.loading import load_spec
from orchestrator.spec.model import Spec
from tests.support.paths import SPECS


@pytest.mark.parametrize("file", sorted(SPECS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_spec_is_valid_and_named_after_its_file(file: Path) -> None:
    spec, _ = load_spec(file)
    assert spec.name == file.stem


@pytest.mark.parametrize("file", sorted(SPECS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_spec_tells_editors_where_its_schema_is(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./midre.schema.json"


def test_the_schema_beside_the_specs_is_up_to_date() -> None:
    stored = json.loads((SPECS / "midre.schema.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(Spec.model_json_schema())), "run `midre schema > specs/midre.schema.json`"
