"""Reruns: the same spec gives the same numbers, and a number that differs is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import RequestError
from orchestrator.executors.inline import InlineExecutor
from orchestrator.rerun import original_run
from orchestrator.results.comparison import Comparison, compare
from tests.support.toy import toy_sweep

THEN = {"value": 0.5, "low": 0.4, "high": 0.6}


def test_a_rerun_starts_from_nothing_and_gives_identical_numbers(tmp_path: Path) -> None:
    sweep = toy_sweep(tmp_path, tmp_path / "runs", search={"space": {}, "seeds": [0]}, defenses=[])
    sweep.run(InlineExecutor(), spec_file=None)
    sweep.publish(sweep.result(), seconds=0.0, jobs={})
    old = original_run(str(sweep.paths.root), runs=tmp_path, mlflow_uri=None)
    fresh = old.rerun()
    done = fresh.run(InlineExecutor(), spec_file=None)
    rows = compare(old.summary, fresh.publish(fresh.result(), seconds=0.0, jobs={}))
    assert (done.jobs_cached, done.jobs_run) == (0, 7)
    assert {row.name for row in rows} == {"natural_accuracy", "gmi.attack_accuracy", "gmi.knn_distance"}
    assert {row.verdict for row in rows} == {"identical"}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.39, "different"),
        (0.4, "within its interval"),
        (0.5, "identical"),
        (0.6, "within its interval"),
        (0.61, "different"),
    ],
)
def test_a_number_is_judged_by_the_interval_it_had(value: float, verdict: str) -> None:
    assert Comparison("t", "natural_accuracy", THEN, {**THEN, "value": value}).verdict == verdict


def test_a_number_that_is_gone_is_missing() -> None:
    then = {"trials": [{"id": "t", "natural_accuracy": THEN, "attacks": {}}]}
    assert [row.verdict for row in compare(then, {"trials": []})] == ["missing"]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"has no resolved\.json: there is nothing to compare"):
        original_run(str(tmp_path), runs=tmp_path, mlflow_uri=None)


def test_a_name_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="neither a run folder, a spec file nor the id of an MLflow run"):
        original_run("nowhere", runs=tmp_path, mlflow_uri=None)
