"""MLflow servers on this machine's loopback for a measurement, on SQLite or on PostgreSQL, gone when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"
PATIENCE_S = 120.0
WORKERS = 2
POSTGRES_USER = "postgres"
"""Who runs PostgreSQL where the caller is root, which it refuses."""


class NoServer(Exception):
    """A server that did not start."""


@contextlib.contextmanager
def mlflow_server(folder: Path, database: str) -> Iterator[str]:
    """A server on a database; yields its address.

    Raises:
        NoServer: if it does not start.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", str(WORKERS)]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "served")]
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # six more processes, and none is used
    with _process(command, folder / "mlflow.log", environment=without_jobs) as is_alive:
        _wait_for("MLflow", is_alive, lambda: _answers(f"http://{HOST}:{port}/health"))
        yield f"http://{HOST}:{port}"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """An empty PostgreSQL database that is reached through a socket in a private folder alone; yields its URI.

    Raises:
        NoServer: if PostgreSQL is not installed, or does not start.
    """
    init, server, ready = map(postgres_tool, ("initdb", "postgres", "pg_isready"))
    user = POSTGRES_USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="midre-postgres-", dir="/tmp") as folder:  # sockets need short paths
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        initialized = subprocess.run(
            [init, "-D", data, "-U", "midre", "-A", "trust"], user=user, cwd="/", capture_output=True
        )
        if initialized.returncode:
            raise NoServer(f"initdb: {initialized.stderr.decode().strip()}")
        command = [server, "-D", data, "-h", "", "-k", folder]
        with _process(command, Path(folder) / "log", user=user) as is_alive:
            is_ready = [ready, "-h", folder, "-q"]
            _wait_for("PostgreSQL", is_alive, lambda: subprocess.run(is_ready).returncode == 0)
            yield f"postgresql+psycopg2://midre@/postgres?host={folder}"


def postgres_tool(name: str) -> str:
    """Path of a program of PostgreSQL, which Debian keeps off the path.

    Raises:
        NoServer: if it is not installed.
    """
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    tool = shutil.which(name) or next(reversed(debian), None)
    if tool is None:
        raise NoServer(f"{name} is not installed: apt-get install postgresql, and pip install 'midre[server]'.")
    return tool


@contextlib.contextmanager
def _process(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, user: str | None = None
) -> Iterator[Callable[[], bool]]:
    """A process and those that it starts; yields whether it runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=user,
            env={**os.environ, **(environment or {})},
            cwd="/",
        )
        try:
            yield lambda: process.poll() is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait()


def _wait_for(name: str, is_alive: Callable[[], bool], answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not answers():
        if not is_alive() or time.monotonic() > deadline:
            raise NoServer(f"{name} does not start.")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
