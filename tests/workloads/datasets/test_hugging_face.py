"""Prepared images as Hugging Face reads them: files of each split, a card, Croissant metadata."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.spec.loading import load_spec, resolve
from tests.support import downloads
from tests.support.toy import write_spec
from workloads.datasets.celeba import Celeba, CelebaConfig
from workloads.datasets.parquet import Parquet, ParquetConfig


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CelebA, prepared for Hugging Face; what the command printed lies beside it."""
    folder = tmp_path_factory.mktemp("prepared")
    downloads.celeba(folder / "source")
    options = ["--set", "check=false", "--jobs", "1", "--to", "hf"]
    done = CliRunner().invoke(
        app, ["data", "prepare", "celeba", "--source", str(folder / "source"), "--out", str(folder / "out"), *options]
    )
    assert done.exit_code == 0, done.output
    (folder / "section.yaml").write_text(done.stdout)
    return folder


def private(folder: Path) -> Path:
    return folder / "out/private"


def original(folder: Path) -> Celeba:
    return Celeba(CelebaConfig(path=str(folder / "source"), check=False, image_size=16))


def test_there_are_files_of_each_split(prepared: Path) -> None:
    assert sorted(file.relative_to(private(prepared)).as_posix() for file in private(prepared).rglob("*.*")) == [
        "README.md",
        "croissant.json",
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
    ]


def test_the_images_are_those_of_the_download_with_its_split(prepared: Path) -> None:
    config = ParquetConfig(path=str(private(prepared)), label_column="label", parts_by_file=True, image_size=16)
    loaded, expected = Parquet(config).load(), original(prepared).load()
    assert loaded.names == expected.names
    assert loaded.held_out is not None
    assert expected.held_out is not None
    for held_out in (False, True):
        here, there = loaded.held_out == held_out, expected.held_out == held_out
        assert loaded.identities[here].tolist() == expected.identities[there].tolist()
        assert np.array_equal(loaded.images[here], expected.images[there])


def test_the_section_of_a_spec_that_is_printed_reads_it(prepared: Path, tmp_path: Path) -> None:
    section = yaml.safe_load((prepared / "section.yaml").read_text())
    for side in ("private", "public"):
        section["data"][side] |= {"image_size": 32}
    spec, source = load_spec(write_spec(tmp_path, **section))
    assert resolve(spec, source, nodes=None).spec.data.split.rule == "published"


def test_the_card_says_what_datasets_reads(prepared: Path) -> None:
    _, header, text = (private(prepared) / "README.md").read_text(encoding="utf-8").split("---\n", maxsplit=2)
    card: dict[str, Any] = yaml.safe_load(header)
    names = card["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert tuple(names[str(number)] for number in range(2)) == original(prepared).names()
    assert "splits" not in card["dataset_info"]  # `datasets` ignores them, with a warning, unless they give bytes too
    assert {entry["split"]: entry["path"] for entry in card["configs"][0]["data_files"]} == {
        "train": "data/train-*",
        "test": "data/test-*",
    }
    assert "Liu et al." in text


def test_croissant_names_every_file_with_its_digest_and_every_column(prepared: Path) -> None:
    croissant = json.loads((private(prepared) / "croissant.json").read_text(encoding="utf-8"))
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    files = [entry for entry in croissant["distribution"] if entry["@type"] == "cr:FileObject"]
    assert {file["contentUrl"]: file["sha256"] for file in files} == {
        file.relative_to(private(prepared)).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in private(prepared).rglob("*.parquet")
    }
    (records,) = croissant["recordSet"]
    assert {field["source"]["extract"]["column"] for field in records["field"]} == {"image", "label", "file"}


def test_hugging_face_reads_it(prepared: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not a dependency of this project")
    loaded = datasets.load_dataset(str(private(prepared)))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 2}
    assert tuple(loaded["train"].features["label"].names) == original(prepared).names()
    assert loaded["train"][0]["image"].size == (108, 108)  # as the protocol crops
