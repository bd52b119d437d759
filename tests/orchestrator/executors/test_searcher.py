"""The searcher that Tune asks: it hands on what Tune tells it, in the shape in which Tune tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.utils import flatten_dict

from orchestrator.executors.base import Session
from orchestrator.executors.ray.searcher import SweepSearcher
from orchestrator.planning.graph import Trial
from orchestrator.store.artifacts import ArtifactStore


class OneTrial:
    """A search that remembers what it heard."""

    waits = False

    def __init__(self) -> None:
        self.heard: list[tuple[str, Mapping[str, float] | None]] = []

    def next(self) -> Trial | None:
        return None

    def give_back(self, trial: Trial) -> None:
        """Have no use for it."""

    def finish(self, trial: str, metrics: Mapping[str, float] | None) -> None:
        self.heard.append((trial, metrics))


@pytest.mark.parametrize(
    "metrics", [{"natural_accuracy": 0.9, "gmi.attack_accuracy": 0.25}, None], ids=["done", "failed"]
)
def test_a_search_hears_the_numbers_of_each_trial(tmp_path: Path, metrics: dict[str, float] | None) -> None:
    search = OneTrial()
    session = Session(search, lambda trial: pytest.fail("asked for"), ArtifactStore(tmp_path), tmp_path / "l", 20.0)
    searcher = SweepSearcher(session, broker=None)
    searcher._tune_trials["tune's name"] = "trial"
    reported: dict[str, Any] = {"done": True, "trial": "trial", "metrics": metrics, "error": ""}
    searcher.on_trial_complete("tune's name", flatten_dict(reported))
    assert search.heard == [("trial", metrics)]


def test_an_end_without_result_is_a_failure(tmp_path: Path) -> None:
    search = OneTrial()
    session = Session(search, lambda trial: pytest.fail("asked for"), ArtifactStore(tmp_path), tmp_path / "l", 20.0)
    searcher = SweepSearcher(session, broker=None)
    searcher._tune_trials["tune's name"] = "trial"
    searcher.on_trial_complete("tune's name", None, error=True)
    assert search.heard == [("trial", None)]
