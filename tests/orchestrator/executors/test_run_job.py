"""Running one job: what is refused before it begins."""

from __future__ import annotations

import pytest

from orchestrator.executors.run_job import read_images
from workloads.context import DataInput
from workloads.core.errors import DataError
from workloads.datasets.base import DATASETS
from workloads.datasets.digits import DigitsConfig


def test_data_that_changed_since_the_job_was_planned_are_refused() -> None:
    config = DigitsConfig(identities=("0", "1"), image_size=32)
    digest = DATASETS.build(config).digest()
    assert read_images(DataInput(dataset=config, digest=digest)).names == ("0", "1")
    with pytest.raises(DataError, match="digits: the files changed since"):
        read_images(DataInput(dataset=config, digest="0" * 64))
