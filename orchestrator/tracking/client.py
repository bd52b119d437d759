"""An MLflow server or database opened, and what it will refuse."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import urlopen

from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import TrackingRefused, TrackingUnavailable
from orchestrator.store.paths import without_password

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # that a database is made is no news

REFUSALS = (MlflowException, OSError, ImportError, SQLAlchemyError, CommandError)
"""Errors of a server or database that is not there, refuses, or whose driver is not installed."""
ANSWER_WITHIN_S = 10.0
LONGEST_VERSION = 100
DENIED = ("code 401", "code 403")
"""What MLflow says of a server that wants other credentials, or will not be called by this name."""
DESCRIPTION = (
    "Sweeps of midre: how much of its private training images a classifier leaks, and what a defense costs. Each sweep "
    "is a run, its trials are runs below, and its target models are logged models with the numbers of every attack."
)


@contextlib.contextmanager
def refusals_named(uri: str) -> Iterator[None]:
    """Raise what MLflow or its database raises in the block as one line that names the place.

    Raises:
        TrackingRefused: if asking again will not help.
        TrackingUnavailable: if the server or database cannot be reached or written to.
    """
    place = f"MLflow at {without_password(uri)}"
    try:
        yield
    except REFUSALS as error:
        reason = without_password(str(error).partition("\n")[0])[:200]
        if any(code in reason for code in DENIED):
            raise TrackingRefused(
                f"{place} refuses this user: {reason}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN."
            ) from error
        raise TrackingUnavailable(f"{place} cannot be written to: {reason}") from error


def open_experiment(uri: str, name: str, artifact_location: str | None) -> tuple[MlflowClient, str]:
    """A client of the server or database, and the id of the experiment, which is made if it is not there.

    Raises:
        TrackingRefused: if the experiment was deleted there.
    """
    with _database_made_once(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise TrackingRefused(
                f"MLflow at {without_password(uri)}: the experiment {name!r} was deleted there: restore it (`mlflow "
                f"experiments restore --experiment-id {experiment.experiment_id}`), or set tracking.experiment to "
                "another name."
            )
        if experiment is not None:
            return client, experiment.experiment_id
        tags = {"mlflow.note.content": DESCRIPTION}
        return client, client.create_experiment(name, artifact_location, tags=tags)


def check_experiment(uri: str, name: str) -> None:
    """Ask whether results can be sent; a local database that does not exist yet is not made.

    Raises:
        TrackingRefused: if they never can: a deleted experiment, missing credentials.
        TrackingUnavailable: if nothing answers now.
    """
    file = _local_database(uri)
    if file is not None and not file.exists():
        return
    with refusals_named(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            open_experiment(uri, name, None)


@contextlib.contextmanager
def written_quickly(uri: str) -> Iterator[None]:
    """Let a local database take many small writes in the block, each of which would wait for the disk several times.

    SQLite's write-ahead log is as safe, and does without most of this; it is left again at the end, since databases
    with one cannot be opened on network file systems. Where another process has the database open, it stays as it is.
    """
    file = _local_database(uri)
    if file is None or not file.exists():
        yield
        return
    _set_journal(file, "WAL")
    try:
        yield
    finally:
        _set_journal(file, "DELETE")


def _set_journal(file: Path, mode: str) -> None:
    with (
        contextlib.closing(sqlite3.connect(file, timeout=0)) as database,
        contextlib.suppress(sqlite3.OperationalError),
    ):
        database.execute(f"PRAGMA journal_mode={mode}")


@event.listens_for(Engine, "connect")
def _wait_less_for_the_disk(connection: object, record: object) -> None:
    """With a write-ahead log, this loses nothing but the last moment when the machine goes down."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


def versions(uri: str) -> tuple[str, str | None]:
    """Version of MLflow here, and that of a server; None for a database, or a server that does not say.

    Raises:
        TrackingUnavailable: if the server does not answer.
    """
    here = version("mlflow")
    if not uri.startswith("http"):
        return here, None
    with refusals_named(uri):
        try:
            with urlopen(f"{without_password(uri).rstrip('/')}/version", timeout=ANSWER_WITHIN_S) as answer:
                return here, str(answer.read(LONGEST_VERSION), "utf-8", "replace").strip()
        except HTTPError:
            return here, None


@contextlib.contextmanager
def _database_made_once(uri: str) -> Iterator[None]:
    """Let one process at a time make or migrate a local database: two at once leave it half made."""
    file = _local_database(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    _remove_stray_folder(uri, file)


def _local_database(uri: str) -> Path | None:
    """The file of a SQLite database; None for anything else."""
    scheme, separator, path = uri.partition(":///")
    is_sqlite = separator and scheme.partition("+")[0] == "sqlite"
    return Path(unquote(path.partition("?")[0])) if is_sqlite and path else None


def _remove_stray_folder(uri: str, file: Path) -> None:
    """Remove the empty folders that MLflow makes beside those with a `%`, `?` or `#` in their names."""
    written = Path(uri.partition(":///")[2]).parent
    if written != file.parent:
        with contextlib.suppress(OSError):  # it is not there, or not empty
            os.removedirs(written)
