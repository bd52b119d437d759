"""A local database of MLflow: quick while much is written to it, and as it was afterwards."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from orchestrator.tracking.client import versions, written_quickly


def journal_of(file: Path) -> str:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE runs (id)")
    return file


def test_a_local_database_has_a_write_ahead_log_only_while_it_is_written_to(file: Path) -> None:
    with written_quickly(f"sqlite:///{file}"):
        assert journal_of(file) == "wal"
    assert journal_of(file) == "delete"
    assert [path.name for path in file.parent.iterdir()] == ["mlflow.db"]


def test_a_database_that_another_process_reads_stays_as_it_is(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM runs").fetchall()
        with written_quickly(f"sqlite:///{file}"):
            assert journal_of(file) == "delete"


def test_a_server_and_a_database_that_is_not_there_are_left_alone(tmp_path: Path) -> None:
    for uri in ("http://host:5000", f"sqlite:///{tmp_path}/none.db"):
        with written_quickly(uri):
            pass
    assert not list(tmp_path.iterdir())


def test_a_database_has_the_version_of_mlflow_here(file: Path) -> None:
    import mlflow

    assert versions(f"sqlite:///{file}") == (mlflow.__version__, None)
