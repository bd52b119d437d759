"""Which process something belongs to, and whether it is still there: a number alone is given to others later."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STARTED = 19
"""Position of a process's start in clock ticks since boot, after its name in /proc/PID/stat (proc(5), field 22)."""


@dataclass(frozen=True)
class Owner:
    """A process of a machine."""

    host: str
    """Name of the machine, with the namespace of its process numbers, which each container has for itself."""
    pid: int
    started: int
    """When it was started, in clock ticks since the machine was."""

    @staticmethod
    def this_process() -> Owner:
        """The process that asks."""
        return Owner(_host(), os.getpid(), _started(os.getpid()) or 0)

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; False for one of another machine."""
        return self.host == _host() and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition(' ')[0]}"


def _host() -> str:
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {namespace}"


def _started(pid: int) -> int | None:
    """When a process was started; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[STARTED])
