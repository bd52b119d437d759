"""`midre new`: what it writes validates, suits the images, and overwrites nothing."""

from __future__ import annotations

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from orchestrator.cli.commands import app
from orchestrator.cli.new_spec import DataAtHand, divided, kind_of
from orchestrator.errors import RequestError
from orchestrator.spec.loading import load_spec
from tests.support.paths import ROOT


def new(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["new", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six people with six grey photographs each, and one with a single one."""
    for person in range(7):
        folder = tmp_path / "photos" / f"person {person}"
        folder.mkdir(parents=True)
        for number in range(1 if person == 3 else 6):
            Image.new("L", (70, 90), color=36 * person + number).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("question", ["trade", "defenses", "attacks"])
def test_a_spec_for_photographs_validates_and_divides_the_people(photos: Path, question: str) -> None:
    file = photos.parent / "mine.yaml"
    result = new("--data", photos, "--question", question, "--out", file)
    assert result.exit_code == 0, result.output
    spec, _ = load_spec(file)
    assert spec.name == "mine"
    assert spec.data.private.kind == "image_folder"
    assert spec.data.private.identities == ("person 0", "person 2", "person 5")
    assert spec.data.public.identities == ("person 1", "person 3", "person 4", "person 6")
    assert yaml.safe_load(file.read_text())["data"]["private"]["path"] == "photos"


def test_a_spec_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine")
    result = new("--data", "digits", "--out", file)
    assert isinstance(result.exception, RequestError)
    assert "is there already" in str(result.exception)
    assert file.read_text() == "name: mine"


def test_without_a_file_the_spec_goes_to_stdout(tmp_path: Path) -> None:
    printed = yaml.safe_load(new("--data", "digits", "--name", "numbers").stdout)
    assert printed["name"] == "numbers"
    assert printed["data"]["private"]["identities"] == ["0", "2", "4", "6", "8"]


def test_where_nobody_can_be_asked_the_option_is_named() -> None:
    assert "give --data" in str(new().exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "nowhere"), "--data nowhere: no such folder or file"),
        (("--data", "digits", "--model", "resne"), "Did you mean 'resnet'?"),
        (("--data", "digits", "--kind", "image_foldr"), "Did you mean 'image_folder'?"),
    ],
)
def test_a_wrong_answer_is_refused_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    message = str(new(*arguments).exception)
    assert words in message
    assert "\n" not in message


def test_too_few_people_are_counted() -> None:
    few = DataAtHand({"kind": "image_folder", "path": "x"}, {"ann": 9, "bob": 8, "cid": 1}, 64, False)
    with pytest.raises(RequestError, match="3 people, 2 of them with at least 5 images, leave 1 private and 2 public"):
        divided(few, None)


def test_people_that_both_sides_have_stay_private() -> None:
    private, public = (
        DataAtHand({"kind": "parquet", "path": "x"}, dict.fromkeys(names, 9), 64, False) for names in ("abc", "bcxyz")
    )
    assert divided(private, public) == (("a", "b", "c"), ("x", "y", "z"))


def test_the_kind_of_data_is_seen_from_its_files(tmp_path: Path) -> None:
    for name in ("tables/train.parquet", "tars/0.tar", "photos/ann/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    kinds = [kind_of(tmp_path / name) for name in ("tables", "tables/train.parquet", "tars", "photos")]
    assert kinds == ["parquet", "parquet", "webdataset", "image_folder"]


def test_templates_are_in_the_wheel() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert any(fnmatch("spec.yaml.jinja", pattern) for pattern in packages["orchestrator.cli"]), json.dumps(packages)
