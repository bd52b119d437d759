"""Downloads made into Parquet: what is written, what is noticed, and what is not done twice."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from tests.support import downloads
from workloads.core.errors import DataError
from workloads.datasets.celeba import Celeba, CelebaConfig
from workloads.datasets.lfw import LfwConfig
from workloads.datasets.mnist import MnistConfig
from workloads.datasets.parquet import Parquet, ParquetConfig
from workloads.datasets.preparation import MANIFEST, Preparation


def prepare(source: Path, out: Path, *, shard_rows: int = 2, jobs: int = 1, **settings: Any) -> dict[str, Any]:
    """Prepare the small CelebA; what its manifest says."""
    config = CelebaConfig.model_validate({"path": str(source), "check": False, **settings})
    return Preparation.of(config, out, shard_rows=shard_rows).run(jobs=jobs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return downloads.celeba(tmp_path / "source")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


def files(folder: Path) -> list[str]:
    return [Path(row["file"]).name for row in rows(folder)]


def times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}


# What is written


def test_each_side_is_a_folder_of_shards(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    assert sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*")) == [
        "manifest.json",
        "private/00000-of-00003.parquet",
        "private/00001-of-00003.parquet",
        "private/00002-of-00003.parquet",
        "public/00000-of-00002.parquet",
        "public/00001-of-00002.parquet",
    ]


def test_rows_say_who_is_on_an_image_and_which_part_it_belongs_to(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    assert [(row["identity"], Path(row["file"]).name, row["part"]) for row in rows(tmp_path / "out/private")] == [
        ("5", "000002.jpg", "train"),
        ("5", "000005.jpg", "train"),
        ("5", "000009.jpg", "test"),
        ("7", "000006.jpg", "train"),
        ("7", "000001.jpg", "train"),
        ("7", "000007.jpg", "test"),
    ]


def test_a_cropped_image_is_stored_without_loss(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    stored = Image.open(io.BytesIO(rows(tmp_path / "out/private")[0]["image"]))
    original = Image.open(source / "img_align_celeba/000002.jpg")
    assert stored.format == "PNG"
    assert np.array_equal(np.asarray(stored), np.asarray(original)[55:163, 35:143])


def test_a_whole_image_is_stored_as_it_was_downloaded(tmp_path: Path) -> None:
    source = downloads.folders(tmp_path / "source", {"Ann": 1, "Bo": 2})
    config = LfwConfig(path=str(source), check=False, private_images=2)
    Preparation.of(config, tmp_path / "out").run(jobs=1)
    assert rows(tmp_path / "out/public")[0]["image"] == (source / "Ann/Ann_0001.jpg").read_bytes()


def test_a_prepared_set_reads_as_its_download_does(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    path = str(tmp_path / "out/private")
    shape: dict[str, Any] = {"image_size": 24, "identities": ("7", "5")}
    prepared = Parquet(ParquetConfig(path=path, part_column="part", **shape)).load()
    raw = Celeba(CelebaConfig(path=str(source), check=False, **shape)).load()
    assert prepared.names == raw.names
    assert prepared.identities.equal(raw.identities)
    assert prepared.images.equal(raw.images)
    assert prepared.held_out is not None and raw.held_out is not None
    assert prepared.held_out.equal(raw.held_out)


def test_a_prepared_set_keeps_the_order_of_classes(tmp_path: Path) -> None:
    lists = {**downloads.CELEBA_LISTS, "trainset": ["000001.jpg 0", "000002.jpg 1"], "testset": ["000007.jpg 0"]}
    prepare(downloads.celeba(tmp_path / "source", lists=lists), tmp_path / "out")
    config = ParquetConfig(path=str(tmp_path / "out/private"), order="first_seen")
    assert Parquet(config).names() == ("7", "5")


def test_digits_are_prepared_into_private_and_public_ones(tmp_path: Path) -> None:
    source = downloads.mnist(tmp_path / "source", [5, 0, 4, 9, 2, 3, 6, 8], [7, 1])
    manifest = Preparation.of(MnistConfig(path=str(source), identities=("0", "4")), tmp_path / "out").run(jobs=1)
    assert [row["identity"] for row in rows(tmp_path / "out/private")] == ["0", "4"]
    assert manifest["sides"]["public"]["images"] == {"test": 2, "train": 6}


# The manifest


def test_the_manifest_counts_what_is_in_the_files(source: Path, tmp_path: Path) -> None:
    manifest = prepare(source, tmp_path / "out")
    sides = {side: (facts["identities"], facts["images"]) for side, facts in manifest["sides"].items()}
    assert sides == {"private": (2, {"train": 4, "test": 2}), "public": (2, {"undivided": 3})}


def test_the_manifest_holds_the_digest_of_every_shard(source: Path, tmp_path: Path) -> None:
    manifest = prepare(source, tmp_path / "out")
    shards = [shard for facts in manifest["sides"].values() for shard in facts["shards"]]
    assert [shard["rows"] for shard in shards] == [2, 2, 2, 2, 1]
    for shard in shards:
        assert shard["sha256"] == hashlib.sha256((tmp_path / "out" / shard["file"]).read_bytes()).hexdigest()


def test_the_manifest_says_what_was_asked_for(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["name"] == "celeba"
    assert manifest["settings"]["protocol"] == "lr_64"
    assert manifest["source"] == str(source)


def test_number_of_threads_changes_no_byte(source: Path, tmp_path: Path) -> None:
    single, several = (prepare(source, tmp_path / f"{jobs}", jobs=jobs) for jobs in (1, 4))
    assert single["sides"] == several["sides"]


# What is noticed


def test_a_missing_file_is_listed(source: Path, tmp_path: Path) -> None:
    (source / "img_align_celeba/000005.jpg").unlink()
    manifest = prepare(source, tmp_path / "out")
    assert [problem["file"] for problem in manifest["problems"]] == ["img_align_celeba/000005.jpg"]
    assert manifest["problems"][0]["message"].endswith("000005.jpg: missing.")
    assert files(tmp_path / "out/private") == ["000002.jpg", "000009.jpg", "000006.jpg", "000001.jpg", "000007.jpg"]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"<html>gone</html>"],
    ids=["cut off", "empty", "no image"],
)
def test_a_damaged_file_is_listed(source: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = source / "img_align_celeba/000005.jpg"
    file.write_bytes(damage(file.read_bytes()))
    manifest = prepare(source, tmp_path / "out")
    assert [problem["file"] for problem in manifest["problems"]] == ["img_align_celeba/000005.jpg"]
    assert "000005.jpg: not an image that can be read: " in manifest["problems"][0]["message"]


def test_a_damaged_file_is_listed_where_images_are_kept_whole(tmp_path: Path) -> None:
    source = downloads.celeba(tmp_path / "source", size=(224, 224))
    file = source / "img_align_celeba/000005.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    manifest = prepare(source, tmp_path / "out", protocol="hr_224", private_people=3)
    assert [problem["file"] for problem in manifest["problems"]] == ["img_align_celeba/000005.jpg"]


def test_problems_of_all_shards_and_sides_are_listed(source: Path, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (source / f"img_align_celeba/{number:06d}.jpg").unlink()
    manifest = prepare(source, tmp_path / "out", jobs=2)
    named = [Path(problem["file"]).name for problem in manifest["problems"]]
    assert named == ["000001.jpg", "000002.jpg", "000004.jpg"]


def test_the_manifest_says_how_many_images_there_should_be(source: Path, tmp_path: Path) -> None:
    (source / "img_align_celeba/000004.jpg").unlink()
    public = prepare(source, tmp_path / "out")["sides"]["public"]
    assert public["listed"] == {"identities": 2, "images": 3}
    assert (public["identities"], public["images"]) == (1, {"undivided": 2})


# What is not done twice


def test_only_the_missing_shard_is_made_when_an_interrupted_preparation_goes_on(source: Path, tmp_path: Path) -> None:
    first = prepare(source, tmp_path / "out")
    before = times(tmp_path / "out/private")
    (tmp_path / "out" / MANIFEST).unlink()
    (tmp_path / "out/private/00001-of-00003.parquet").unlink()
    assert prepare(source, tmp_path / "out") == first
    after = times(tmp_path / "out/private")
    assert {name for name in after if after[name] != before[name]} == {"00001-of-00003.parquet"}


def test_an_interrupted_preparation_leaves_no_half_shard_and_no_manifest(source: Path, tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    config = CelebaConfig(path=str(source), check=False)
    with pytest.raises(KeyboardInterrupt):
        Preparation.of(config, tmp_path / "out", shard_rows=2).run(jobs=1, on_images=interrupt)
    assert list((tmp_path / "out").rglob("*.parquet")) == []
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_half_written_shard_is_made_again(source: Path, tmp_path: Path) -> None:
    first = prepare(source, tmp_path / "out")
    shard = tmp_path / "out/private/00000-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    assert prepare(source, tmp_path / "out") == first


def test_problems_of_finished_shards_are_still_listed_when_it_goes_on(source: Path, tmp_path: Path) -> None:
    (source / "img_align_celeba/000005.jpg").unlink()
    first = prepare(source, tmp_path / "out")
    before = times(tmp_path / "out/private")
    assert prepare(source, tmp_path / "out")["problems"] == first["problems"] != []
    assert times(tmp_path / "out/private") == before


def test_a_shard_is_made_again_when_a_missing_file_has_come(source: Path, tmp_path: Path) -> None:
    (source / "img_align_celeba/000005.jpg").unlink()
    prepare(source, tmp_path / "out")
    before = times(tmp_path / "out/private")
    downloads.picture(source / "img_align_celeba/000005.jpg", (178, 218))
    assert prepare(source, tmp_path / "out")["problems"] == []
    after = times(tmp_path / "out/private")
    assert {name for name in after if after[name] != before[name]} == {"00000-of-00003.parquet"}


def test_another_split_makes_every_shard_of_its_side_again(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", shard_rows=20)
    (source / "meta/testset.txt").write_text("000009.jpg 0\n")
    (source / "meta/trainset.txt").write_text("000002.jpg 0\n000007.jpg 1\n")
    prepare(source, tmp_path / "out", shard_rows=20)
    assert files(tmp_path / "out/private") == ["000002.jpg", "000009.jpg", "000007.jpg"]


def test_a_folder_that_holds_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    before = times(tmp_path / "out/private")
    with pytest.raises(DataError, match=r"00000-of-00003.parquet belongs to another data set or protocol: remove "):
        prepare(source, tmp_path / "out", shard_rows=6)
    assert times(tmp_path / "out/private") == before


def test_progress_comes_to_the_number_of_images(source: Path, tmp_path: Path) -> None:
    (source / "img_align_celeba/000005.jpg").unlink()
    preparation = Preparation.of(CelebaConfig(path=str(source), check=False), tmp_path / "out", shard_rows=2)
    counts: list[int] = []
    preparation.run(jobs=1, on_images=counts.append)
    assert sum(counts) == preparation.images == 9
