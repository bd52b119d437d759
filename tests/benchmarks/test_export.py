"""Exports of a made-up sweep to real servers: nothing is lost, and twice is no more."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.export import measure, opened
from benchmarks.made_up_sweep import MadeUpSweep
from benchmarks.mlflow_servers import NoServer, postgres_tool

pytestmark = pytest.mark.slow


def has_postgres() -> bool:
    try:
        postgres_tool("initdb")
    except NoServer:
        return False
    return importlib.util.find_spec("psycopg2") is not None


@pytest.mark.parametrize(
    ("kind", "trials"),
    [
        ("file", 12),
        ("server", 12),
        pytest.param("postgres", 100, marks=pytest.mark.skipif(not has_postgres(), reason="needs PostgreSQL")),
    ],
)
def test_an_export_loses_nothing_adds_nothing_at_the_second_time_and_then_only_what_is_new(
    tmp_path: Path, kind: str, trials: int
) -> None:
    with opened(kind, tmp_path) as uri:
        sweep = MadeUpSweep(tmp_path / "runs", trials=trials + 1, numbers=20)
        sweep.end_trials(trials)
        report = measure(sweep, uri, trials=trials, numbers=20)  # which raises if a run, number or point is wrong
    assert report["trials_per_second"]
