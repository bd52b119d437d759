"""What a run is doing at this moment, in a small file that every machine which sees the folder can read."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator.executors.snapshot import Snapshot, group_of, left_s
from orchestrator.sweep import Sweep
from workloads.core.files import write_atomically

WRITE_EVERY_S = 2.0
COUNT_AGAIN_EVERY_S = 60.0
"""How often the jobs of a search that learns are counted again."""


@dataclass(frozen=True)
class LiveStatus:
    """The state of a run as its driver knows it."""

    written_at: float
    """Seconds since 1970."""
    host: str
    """The driver's machine."""
    pid: int
    """The driver's process."""
    over: bool
    """Whether the driver has ended."""
    trials: int
    """Trials of the whole sweep."""
    jobs: int | None
    """Distinct jobs of the trials that are certain; None before they are counted."""
    left_s: float | None
    """Seconds until the end; None while that cannot be told."""
    snapshot: Snapshot


_ADAPTER = TypeAdapter(LiveStatus)


def read_live_status(path: Path) -> LiveStatus | None:
    """The status last written; None if there is none, or one of another version of midre."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


class StatusWriter:
    """Writes the status of a run every other second while a `with` block runs, in a thread of its own."""

    def __init__(self, sweep: Sweep, snapshot: Callable[[], Snapshot], say: Callable[[str], None]) -> None:
        """`say` tells the user in a line what keeps all jobs from beginning, and that it is over."""
        self._sweep, self._snapshot, self._say = sweep, snapshot, say
        self._trouble = ""
        self._trials = sweep.search().size
        self._totals: Counter[str] = Counter()
        self._counted_at: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="status", daemon=True)

    def __enter__(self) -> StatusWriter:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def left_s(self, snapshot: Snapshot) -> float | None:
        """Seconds until the end of the run; None while that cannot be told."""
        return left_s(snapshot, self._totals, time.time()) if self._totals else None

    def _write_now_and_then(self) -> None:
        self._write()
        is_over = False
        while not is_over:
            is_over = self._over.wait(WRITE_EVERY_S)
            self._count_jobs()
            self._write()

    def _count_jobs(self) -> None:
        """Count the jobs of the sweep once, and again where its search learns what to try."""
        learns = self._sweep.resolved.spec.search.sampler.learns
        counted = self._counted_at
        if counted is None or (learns and time.monotonic() - counted > COUNT_AGAIN_EVERY_S):
            jobs = {job.key: job for plan in self._sweep.plans() for job in plan.jobs}
            self._totals = Counter(group_of(job) for job in jobs.values())
            self._counted_at = time.monotonic()

    def _write(self) -> None:
        snapshot = self._snapshot()
        trouble = snapshot.trouble
        status = LiveStatus(
            written_at=time.time(),
            host=platform.node(),
            pid=os.getpid(),
            over=self._over.is_set(),
            trials=self._trials,
            jobs=sum(self._totals.values()) or None,
            left_s=self.left_s(snapshot),
            snapshot=snapshot,
        )
        try:
            write_atomically(self._sweep.paths.status, _ADAPTER.dump_json(status))
        except OSError as error:
            trouble = trouble or f"{self._sweep.paths.root} cannot be written to: {error.strerror}. The run waits."
        if bool(trouble) != bool(self._trouble):
            self._say(trouble or "There is room again: the run goes on.")
        self._trouble = trouble
