"""The append-only log of a run: one JSON line per event, on disk before anybody else learns of it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError

Event = dict[str, Any]
"""One line of a ledger: "time", "event" (its name) and the facts of that event."""

LOOK_FOR_ROOM_EVERY_S = 1.0
LEDGER_PATIENCE_S = 30.0
"""How long to wait for the ledger: the broker of a driver that was killed holds it for some seconds more."""


class Ledger:
    """The one writer of a run's events: no other process can open the ledger until it is closed or its process ends."""

    def __init__(self, path: Path, *, patience_s: float = 0.0) -> None:
        """Open for appending; a line torn by a killed writer is cut off.

        `patience_s` is how long to wait for another writer to end: one that was killed holds on for a moment.

        Raises:
            RequestError: if another process has it open for longer than that.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not _lock(self._file, patience_s):
            os.close(self._file)
            raise RequestError(f"{path}: another process is running this sweep: wait for it, or stop it first.")
        _cut_torn_line(self._file)

    def append(self, event: str, **facts: Any) -> Event:
        """Record an event; it is on disk when this returns, which waits where the disk is full."""
        record = {"time": time.time(), "event": event, **facts}
        line = (json.dumps(record, sort_keys=True, allow_nan=False) + "\n").encode()
        while not self._write(line):
            time.sleep(LOOK_FOR_ROOM_EVERY_S)
        return record

    def _write(self, line: bytes) -> bool:
        """Write a line as a whole; False, with nothing written, if the disk is full."""
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            written = 0
        if written < len(line):
            os.ftruncate(self._file, size)
        return written == len(line)

    def close(self) -> None:
        """Let other processes open the ledger."""
        os.close(self._file)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_events(path: Path) -> Iterator[Event]:
    """Read all events in order; a last line that is still being written, or was torn, is left out.

    Raises:
        RequestError: if a line before the last is not an event.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}:{number}: not an event: the ledger was edited or damaged.") from error


@dataclass
class TrialState:
    """What the ledger says about a trial."""

    id: str
    point: int
    """Number of its point of the search space."""
    params: Mapping[str, Any]
    """Values of the searched fields at that point, by their path in the spec."""
    seed: int
    baseline: bool
    """True for the trial without the searched defense, which the others are compared with."""
    stage: str = "search"
    """'search', or 'confirm' for a trial that confirms a point which the search picked."""
    status: str = "started"
    """'started', 'done' or 'failed'."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Its results by name, once it is done."""
    error: str = ""
    """Why it failed."""
    started_at: float = 0.0
    """When it began, in seconds since 1970; a finished trial that is looked at again keeps its times."""
    ended_at: float | None = None
    """When it ended, in seconds since 1970; never before it began, also where the clock was set back meanwhile."""


@dataclass
class RunState:
    """The state of a run, computed by applying the events of its ledger one after another."""

    trials: dict[str, TrialState] = field(default_factory=dict)
    """Every trial that was ever started, by id."""
    jobs_done: dict[str, Event] = field(default_factory=dict)
    """The event that ended each finished job, by key."""
    jobs_failed: dict[str, Event] = field(default_factory=dict)
    """The event that ended each job that failed for good, by key."""
    jobs_waiting: dict[str, Event] = field(default_factory=dict)
    """The event that says what each job waits for whose worker cannot start, by key."""
    started_at: float | None = None
    """When the run was first started, in seconds since 1970."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Versions and commit with which the run was last started."""
    updated_at: float | None = None
    """When the last event happened, in seconds since 1970."""

    def apply(self, event: Event) -> None:
        """Update the state by the event that comes next."""
        self.updated_at = event["time"]
        match event["event"]:
            case "sweep_started":
                self.started_at = self.started_at or event["time"]
                self.provenance = event
                self.jobs_waiting.clear()  # those of a process that is gone
            case "sweep_stopped":
                self.jobs_waiting.clear()
            case "trial_started":
                self._start_trial(event)
            case "trial_done":
                trial = self.trials[event["trial"]]
                trial.status, trial.metrics, trial.error = "done", event["metrics"], ""
                trial.ended_at = trial.ended_at or max(event["time"], trial.started_at)
            case "trial_failed":
                trial = self.trials[event["trial"]]
                trial.status, trial.error = "failed", event["error"]
                trial.ended_at = max(event["time"], trial.started_at)
            case "job_waits":
                self.jobs_waiting[event["key"]] = event
            case "job_started":
                self.jobs_waiting.pop(event["key"], None)
            case "job_done":
                self.jobs_done[event["key"]] = event
                self.jobs_failed.pop(event["key"], None)
            case "job_failed" if event["final"]:
                self.jobs_failed[event["key"]] = event

    def _start_trial(self, event: Event) -> None:
        facts = {name: event[name] for name in ("point", "params", "seed", "baseline")}
        before = self.trials.get(event["trial"])
        stage = event.get("stage", "search")  # earlier versions knew no other
        trial = TrialState(event["trial"], **facts, stage=stage, started_at=event["time"])
        if before is not None and before.metrics:  # it was done once
            trial.started_at, trial.ended_at, trial.metrics = before.started_at, before.ended_at, before.metrics
        self.trials[event["trial"]] = trial


def run_state(path: Path) -> RunState:
    """Read the ledger at `path` and compute the state of its run."""
    state = RunState()
    for event in read_events(path):
        state.apply(event)
    return state


def _lock(file: int, patience_s: float) -> bool:
    """Try to get the lock of an open file; False if another process keeps it for longer than `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _cut_torn_line(file: int) -> None:
    size = os.fstat(file).st_size
    tail = os.pread(file, min(size, 1 << 20), max(size - (1 << 20), 0))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(file, size - len(tail) + tail.rfind(b"\n") + 1)
