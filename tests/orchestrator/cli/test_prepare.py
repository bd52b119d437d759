"""`midre data prepare` as it is typed, and specs that take the split which came with the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from orchestrator.cli.commands import app
from orchestrator.errors import RequestError, SpecError
from orchestrator.spec.loading import load_spec, resolve
from tests.support import downloads
from tests.support.toy import TOY, write_spec


def prepare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "prepare", *map(str, arguments)])


def celeba(folder: Path, *more: str) -> Result:
    options = ("--set", "check=false", "--jobs", "1", *more)
    return prepare("celeba", "--source", folder / "source", "--out", folder / "out", *options)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, RequestError)
    return str(result.exception)


def test_prepare_ends_with_the_section_of_a_spec_that_reads_the_result(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    done = celeba(tmp_path)
    assert done.exit_code == 0
    section = yaml.safe_load(done.stdout)
    shape = {"image_size": 32}
    for side in ("private", "public"):
        section["data"][side] |= shape
    spec, source = load_spec(write_spec(tmp_path, **section))
    assert resolve(spec, source, nodes=None).spec.data.split.rule == "published"


def test_prepare_counts_in_words(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    assert "private: 2 identities, 4 train images, 2 test images, 1 shards" in celeba(tmp_path).stderr


def test_prepare_prints_its_manifest_as_json(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    printed = json.loads(celeba(tmp_path, "--json").stdout)
    assert printed == json.loads((tmp_path / "out/manifest.json").read_text())


def test_missing_images_are_named_and_end_with_1(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    (tmp_path / "source/img_align_celeba/000005.jpg").unlink()
    done = celeba(tmp_path)
    assert done.exit_code == 1
    assert "1 images are missing or damaged:" in done.stderr
    assert "000005.jpg: missing." in done.stderr


def test_missing_images_end_with_0_where_they_are_allowed_and_are_recorded_all_the_same(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    (tmp_path / "source/img_align_celeba/000005.jpg").unlink()
    assert celeba(tmp_path, "--allow-missing").exit_code == 0
    assert len(json.loads((tmp_path / "out/manifest.json").read_text())["problems"]) == 1


def test_only_the_first_twenty_problems_are_shown(tmp_path: Path) -> None:
    (tmp_path / "thumbnails128x128").mkdir()
    options = ("--source", tmp_path, "--out", tmp_path / "out", "--set", "images=25")
    done = prepare("ffhq", *options)
    assert done.stderr.count(": missing.") == 20
    assert f"and 5 more: {tmp_path}/out/manifest.json lists them all." in done.stderr


def test_a_protocol_is_an_option(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    celeba(tmp_path, "--set", "protocol=hr_224", "--set", "private_people=3")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["sides"]["private"]["images"] == {"train": 9, "test": 1}


def test_a_data_set_that_needs_no_preparing_is_refused_with_those_that_do() -> None:
    message = refusal(prepare("digits", "--source", ".", "--out", "."))
    assert message.startswith("digits: no data set that can be prepared. Available: afhq_dogs, celeba, emnist, ")


def test_a_misspelt_data_set_is_refused_with_the_one_that_was_meant() -> None:
    assert "Did you mean 'celeba'?" in refusal(prepare("celebA", "--source", ".", "--out", "."))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "protokol=lr_64",
            "--set protokol: no option of celeba. Did you mean 'protocol'? Options: check, identities, ",
        ),
        ("image_size=64", "--set image_size: no option of celeba. Options: "),
        ("protocol=lr_65", "--set protocol: must be one of 'lr_64' or 'hr_224', got 'lr_65'."),
        ("check=[", "--set check: not a YAML value: '['."),
    ],
)
def test_a_wrong_option_is_refused(setting: str, message: str) -> None:
    assert refusal(prepare("celeba", "--source", ".", "--out", ".", "--set", setting)).startswith(message)


def test_the_data_set_downloads_itself_first_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: str, **rest: object) -> None:
        downloads.mnist(Path(root) / "MNIST/raw", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0])

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    done = prepare("mnist", "--source", tmp_path / "source", "--out", tmp_path / "out", "--download")
    assert done.exit_code == 0


def test_a_split_that_nobody_published_is_refused_in_one_line(tmp_path: Path) -> None:
    file = write_spec(tmp_path, data={**TOY["data"], "split": {"rule": "published"}})
    spec, source = load_spec(file)
    with pytest.raises(SpecError, match=r"split.rule: digits publishes no split here: set the rule to fraction\.$"):
        resolve(spec, source, nodes=None)


def test_a_table_without_parts_is_told_how_to_have_a_split(tmp_path: Path) -> None:
    downloads.celeba(tmp_path / "source")
    celeba(tmp_path)
    sides = {
        side: {"kind": "parquet", "path": str(tmp_path / "out" / side), "image_size": 32}
        for side in ("private", "public")
    }
    spec, source = load_spec(write_spec(tmp_path, data={**sides, "split": {"rule": "published"}}))
    with pytest.raises(SpecError, match=r"or name the column of a table that has one as part_column\.$"):
        resolve(spec, source, nodes=None)
