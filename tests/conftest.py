"""Settings of the whole suite."""

from __future__ import annotations

import os

import pytest
import torch

from workloads.core.numerics import STRICT_VARIABLE
from workloads.datasets.reading.census import FOLDER_VARIABLE

# An operation without a deterministic form fails, here and in the workers of the tests, where a run records it.
os.environ.pop("MLFLOW_TRACKING_URI", None)  # the tests have servers of their own
os.environ[STRICT_VARIABLE] = "1"
torch.use_deterministic_algorithms(True)

# Tensors here are small: two threads gain nothing, and on a busy machine they wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _censuses(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is noted of images while specs are checked does not go to the home of whoever runs the tests."""
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("censuses"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process of several is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in slow)
