"""The split that a data set publishes: from the reader to the images that are trained on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from pydantic import ValidationError

from tests.support import downloads
from workloads.core.config import content
from workloads.core.errors import DataError
from workloads.datasets.base import ImageSet, SplitConfig
from workloads.datasets.mnist import Mnist, MnistConfig
from workloads.datasets.parquet import Parquet, ParquetConfig
from workloads.recipes.optimization import TrainingConfig
from workloads.training.loop import split_off_validation

PUBLISHED = SplitConfig(rule="published")
HELD_OUT = torch.tensor([False, True, False, False, True, False])


def images(held_out: torch.Tensor | None = HELD_OUT) -> ImageSet:
    """Six images, each of the grey of its number, of three people."""
    greys = torch.arange(6, dtype=torch.uint8)[:, None, None, None]
    return ImageSet(greys, torch.tensor([0, 0, 1, 1, 2, 2]), ("a", "b", "c"), held_out)


def greys(data: ImageSet) -> list[int]:
    return data.images.flatten().tolist()


def table(folder: Path, parts: list[str | None]) -> ParquetConfig:
    pixels = downloads.picture(folder / "one.png").read_bytes()
    count = len(parts)
    columns = {"image": [pixels] * count, "identity": ["anna"] * count, "part": pa.array(parts, pa.string())}
    parquet.write_table(pa.table(columns), folder / "table.parquet")
    return ParquetConfig(path=str(folder / "table.parquet"), part_column="part")


def test_a_published_split_is_taken_as_it_is() -> None:
    train, test = images().split(PUBLISHED)
    assert (greys(train), greys(test)) == ([0, 2, 3, 5], [1, 4])
    assert (train.identities.tolist(), test.identities.tolist()) == ([0, 1, 1, 2], [0, 2])


def test_a_fraction_is_drawn_although_a_split_is_published() -> None:
    train, test = images().split(SplitConfig(test_fraction=0.5))
    assert sorted(test.identities.tolist()) == [0, 1, 2]
    assert sorted(greys(train) + greys(test)) == [0, 1, 2, 3, 4, 5]


def test_nobodys_split_cannot_be_taken() -> None:
    with pytest.raises(DataError, match="come without a published split: take the rule 'fraction'"):
        images(None).split(PUBLISHED)


def test_a_published_split_that_trains_on_nothing_of_somebody_is_refused() -> None:
    with pytest.raises(DataError, match="trains on 2 of 3 identities and holds 2 images out"):
        images(torch.tensor([False, False, True, True, False, False])).split(PUBLISHED)


def test_a_published_split_that_holds_nothing_out_is_refused() -> None:
    with pytest.raises(DataError, match="trains on 3 of 3 identities and holds 0 images out"):
        images(torch.zeros(6, dtype=torch.bool)).split(PUBLISHED)


def test_a_subset_knows_what_is_held_out() -> None:
    subset = images().subset(torch.tensor([4, 0]))
    assert subset.held_out is not None
    assert subset.held_out.tolist() == [True, False]


def test_images_to_validate_by_are_drawn_from_the_training_part() -> None:
    nine = torch.arange(9)
    data = ImageSet(nine.byte()[:, None, None, None], nine // 3, ("a", "b", "c"), nine % 3 == 2)
    kept, validation = split_off_validation(data.split(PUBLISHED)[0], TrainingConfig(validation_fraction=0.5))
    assert validation is not None
    assert sorted(greys(kept) + greys(validation)) == [0, 1, 3, 4, 6, 7]
    assert validation.identities.tolist() == [0, 1, 2]


@pytest.mark.parametrize("field", [{"test_fraction": 0.3}, {"seed": 1}])
def test_fields_of_the_other_rule_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="have no part in a published split: leave them out"):
        SplitConfig.model_validate({"rule": "published", **field})


def test_results_of_a_drawn_split_keep_their_keys() -> None:
    assert content(SplitConfig()) == {"test_fraction": 0.2, "seed": 0}
    assert content(PUBLISHED)["rule"] == "published"


def test_results_on_a_table_without_parts_keep_their_keys() -> None:
    assert not {"part_column", "order"} & content(ParquetConfig(path="table.parquet")).keys()


def test_a_table_may_say_what_is_held_out(tmp_path: Path) -> None:
    loaded = Parquet(table(tmp_path, ["train", "test", "train"])).load()
    assert loaded.held_out is not None
    assert loaded.held_out.tolist() == [False, True, False]


def test_a_table_holds_nothing_out_unless_its_column_is_named(tmp_path: Path) -> None:
    config = table(tmp_path, ["train", "test"]).model_copy(update={"part_column": None})
    assert Parquet(config).load().held_out is None


@pytest.mark.parametrize("part", [None, "valid"])
def test_a_part_that_is_none_is_refused_at_its_row(tmp_path: Path, part: str | None) -> None:
    with pytest.raises(DataError, match=rf"table.parquet: row 1: 'part' is {part!r}, not 'train' or 'test'"):
        Parquet(table(tmp_path, ["train", part])).load()


def test_a_column_of_parts_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = table(tmp_path, ["train"]).model_copy(update={"part_column": "split"})
    with pytest.raises(DataError, match=r"part_column: .* has no column 'split'. Columns: image, identity, part"):
        Parquet(config).available()


def test_a_cap_takes_from_both_parts(tmp_path: Path) -> None:
    root = downloads.mnist(tmp_path, [0, 0, 0, 1], [0, 0, 1])
    loaded = Mnist(MnistConfig(path=str(root), max_per_identity=1)).load()
    assert loaded.held_out is not None
    assert loaded.identities.tolist() == [0, 0, 1, 1]
    assert loaded.held_out.tolist() == [False, True, False, True]
