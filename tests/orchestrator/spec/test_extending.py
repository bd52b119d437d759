"""Specs that extend others: what is put over what, and where problems are said to stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import SpecError
from orchestrator.spec.extending import read_extended
from orchestrator.spec.loading import load_spec
from tests.support.toy import TOY, write_spec

BASE = """\
name: base
data: {path: faces}
attacks:
  - {kind: gmi, steps: 10, restarts: 2}
  - kind: plgmi
    steps: 20
search:
  seeds: [0, 1]
  space: {}
"""


def unchanged(data: Any, folder: Path) -> None:
    """Prepare nothing."""


def extended(folder: Path, text: str, *, base: str = BASE) -> Any:
    """The data of a spec with this text that extends the base."""
    (folder / "base.yaml").write_text(base)
    (folder / "over.yaml").write_text(f"extends: base.yaml\n{text}")
    return read_extended(folder / "over.yaml", unchanged)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("name: over", ("name",), "over"),
        ("name: over", ("search",), {"seeds": [0, 1], "space": {}}),
        ("search: {seeds: [7]}", ("search",), {"seeds": [7], "space": {}}),
        ("attacks: [{kind: gmi}]", ("attacks",), [{"kind": "gmi"}]),
        ("attacks: {0: {steps: 5}}", ("attacks", 0), {"kind": "gmi", "steps": 5, "restarts": 2}),
        ("attacks: {0: {steps: 5}}", ("attacks", 1), {"kind": "plgmi", "steps": 20}),
        ("attacks: {1: {kind: ppa, pool: 9}}", ("attacks", 1), {"kind": "ppa", "pool": 9}),
        ("attacks: {append: [{kind: ppa}]}", ("attacks", 2), {"kind": "ppa"}),
        ("search: {seeds: {append: [2]}}", ("search", "seeds"), [0, 1, 2]),
        ("search: {space: {defenses: 1}}", ("search", "space"), {"defenses": 1}),
        ("prior: {kind: wgan_gp}", ("prior",), {"kind": "wgan_gp"}),
        ("search: {space: null}", ("search",), {"seeds": [0, 1]}),
        ("search: {seeds: null}", ("search",), {"space": {}}),
        ("prior: null", ("prior",), None),  # the other spec has none that could be left out
    ],
)
def test_fields_are_put_over_those_of_the_spec_that_is_extended(
    tmp_path: Path, text: str, path: tuple[str | int, ...], value: Any
) -> None:
    data = extended(tmp_path, text).data
    assert "extends" not in data
    for part in path:
        data = data[part]
    assert data == value


def test_every_field_keeps_its_file_and_its_line(tmp_path: Path) -> None:
    source = extended(tmp_path, "search:\n  seeds: [7]\nattacks:\n  1:\n    steps: 5\n  append:\n    - kind: ppa\n")
    base, over = str(tmp_path / "base.yaml"), str(tmp_path / "over.yaml")
    places = {
        ("name",): (1, base),
        ("search", "seeds"): (3, over),
        ("search", "space"): (9, base),
        ("attacks", 0, "steps"): (4, base),
        ("attacks", 1, "kind"): (5, base),
        ("attacks", 1, "steps"): (6, over),
        ("attacks", 2, "kind"): (8, over),
    }
    problems = {path: source.problem(path, "") for path in places}
    assert {path: (problem.line, problem.file) for path, problem in problems.items()} == places


def test_chains_are_followed(tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_text("name: root\ndescription: kept\n")
    source = extended(tmp_path, "name: over", base="extends: root.yaml\nname: middle\ndata: {}\n")
    assert source.data == {"name": "over", "description": "kept", "data": {}}
    assert source.problem(("description",), "").file == str(tmp_path / "root.yaml")


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("attacks: {2: {steps: 1}}", BASE, "over.yaml:2: attacks.2: names no position of a list of 2: give 0 to 1, or"),
        ("attacks: {append: 3}", BASE, "over.yaml:2: attacks.append: names no position of a list of 2"),
        ("name: over", "extends: over.yaml\n", "base.yaml:1: extends: over.yaml extends this spec in turn: end the"),
        ("name: over", "extends: lost.yaml\n", "lost.yaml: give a path relative to this spec."),
        ("name: over", "extends: [a]\n", "base.yaml:1: extends: must be the path of a spec, got ['a']."),
    ],
)
def test_what_cannot_be_put_together_is_one_line(tmp_path: Path, text: str, base: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        extended(tmp_path, text, base=base)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_spec_that_extends_another_is_that_spec_with_its_changes(tmp_path: Path) -> None:
    write_spec(tmp_path)
    over = tmp_path / "over.yaml"
    over.write_text("extends: toy.yaml\ntarget: {training: {epochs: 1}}\nsearch: {seeds: {append: [1]}}\n")
    spec, _ = load_spec(over)
    training = TOY["target"]["training"] | {"epochs": 1}
    (tmp_path / "whole.yaml").write_text(
        yaml.safe_dump(
            TOY | {"target": TOY["target"] | {"training": training}, "search": TOY["search"] | {"seeds": [0, 1]}}
        )
    )
    assert spec == load_spec(tmp_path / "whole.yaml")[0]


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    below = tmp_path / "studies"
    below.mkdir()
    public = {"kind": "image_folder", "path": "faces"}
    write_spec(tmp_path, data=TOY["data"] | {"public": public})
    (below / "over.yaml").write_text("extends: ../toy.yaml\nname: over\n")
    spec, _ = load_spec(below / "over.yaml")
    assert Path(spec.plain()["data"]["public"]["path"]).resolve() == tmp_path / "faces"


def test_a_problem_in_the_spec_that_is_extended_names_that_file(tmp_path: Path) -> None:
    write_spec(tmp_path, target={"model": {"kind": "small_cnn", "width": -2}})
    (tmp_path / "over.yaml").write_text("extends: toy.yaml\nname: over\nprior: {width: 0}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "over.yaml")
    first, second = sorted(str(caught.value).splitlines())
    assert "over.yaml:3: prior.width: must be above 0, got 0." in first
    assert "toy.yaml:" in second and "target.model.width: must be above 0, got -2." in second
