"""An embedded Ray that no other machine reaches, in a folder of this user's that goes with it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ray._private import ray_constants

from orchestrator.errors import RequestError
from orchestrator.store.temporary import PREFIX, mark_owned

LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket, on Linux."""
SESSION = len("/session_2026-11-27_02-19-16_836372_4194304/sockets/plasma_store.9")
"""Bytes that Ray adds to its folder for the longest of its sockets."""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for Ray's session that this user alone can enter, removed at the end of the block.

    It lies in the temporary directory, or in /tmp where that has too long a name for sockets.

    Raises:
        RequestError: if both have.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=_short_place(), ignore_cleanup_errors=True) as folder:
        mark_owned(Path(folder))
        yield Path(folder) / "ray"  # Ray opens the folder it creates to everybody, not the one around it


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Let Ray processes started in the block listen on this machine's loopback interface alone.

    Ray does so by itself on Windows and macOS; on Linux this switch is the only way to get it.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]


def _short_place() -> str:
    longest = LONGEST_SOCKET - SESSION - len(f"/{PREFIX}12345678/ray")
    for place in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(place)) <= longest and os.access(place, os.W_OK):
            return place
    raise RequestError(
        f"TMPDIR {tempfile.gettempdir()}: too long a name for the sockets of Ray, and /tmp cannot be written to: "
        "set TMPDIR to a folder with a short name."
    )
