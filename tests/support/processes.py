"""Processes that a test starts, watches and ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

import psutil

PATIENCE_S = 120


def wait_until(claim: Callable[[], bool]) -> None:
    """Return as soon as `claim` holds; the test fails if it does not within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "the claim never came true"
        time.sleep(0.02)


def name_of(process: psutil.Process) -> str:
    """Name of a process; empty if it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """All processes that this one started, and those that they started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill those that still run; psutil tells them apart by pid and time of birth."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def is_of_ray_alone(process: psutil.Process) -> bool:
    """True for Ray's agents, and for a worker process so young that it has not joined Ray and has no work yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "Agent" in process.name() or any(part.endswith("default_worker.py") for part in process.cmdline())
    return False


def listening_addresses(process: psutil.Process) -> set[str]:
    """Every address at which a process can be reached through the network, IPv4 ones without their IPv6 form."""
    with contextlib.suppress(psutil.NoSuchProcess):
        sockets = process.net_connections(kind="inet")
        return {socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == psutil.CONN_LISTEN}
    return set()
