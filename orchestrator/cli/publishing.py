"""Tables, report and MLflow kept up to date while a sweep runs, in a thread of its own that no job waits for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from rich.console import Console

from orchestrator.cli.output import print_line
from orchestrator.errors import TrackingRefused, TrackingUnavailable
from orchestrator.executors.snapshot import Snapshot
from orchestrator.results.sweep_result import SweepResult
from orchestrator.store.paths import without_password
from orchestrator.sweep import Sweep

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How often to look whether a trial has ended."""
LEAST_PAUSE_S = 10.0
"""Seconds between updates of MLflow, however fast trials end."""
SHARE = 5
"""An update that takes a second is followed by at least this many seconds without one."""
PATIENCE_S = 20.0
"""How long the end of a run waits for an update that is going on, such as one that a server keeps waiting."""
SERVER_PATIENCE_S = 60.0
"""How long the end of a run waits for a server to take the rest. A database of this machine's is waited for."""


class Publisher:
    """Publishes what a sweep has so far while a `with` block runs it."""

    def __init__(self, sweep: Sweep, snapshot: Callable[[], Snapshot], console: Console, *, started: float) -> None:
        """`started` is `time.monotonic()` when the command began."""
        self._sweep, self._snapshot, self._console, self._started = sweep, snapshot, console, started
        self._tracking = sweep.resolved.spec.tracking
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish_now_and_then, name="publisher", daemon=True)
        self._trials_ended = 0
        self._published = self._synced = time.monotonic()
        self._pause = LEAST_PAUSE_S
        self._refusal = ""

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S if error is None else 0)

    def _publish_now_and_then(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            started = time.monotonic()
            try:
                self._publish_what_is_due(started)
            except Exception:
                logger.exception("%s: results could not be published", self._sweep.id)
                self._published = self._synced = time.monotonic()
            self._pause = max(LEAST_PAUSE_S, SHARE * (time.monotonic() - started))

    def _publish_what_is_due(self, now: float) -> None:
        done = self._snapshot()
        ended = done.trials_done + done.trials_failed
        if now - self._published >= max(self._tracking.every_s, self._pause):
            result = self._sweep.result()
            jobs = {"run": done.jobs_run, "cached": done.jobs_cached, "failed": done.jobs_failed}
            self._sweep.publish(result, seconds=now - self._started, jobs=jobs)
            self._published = time.monotonic()
        elif ended == self._trials_ended or now - self._synced < self._pause:
            return
        self._trials_ended = ended
        if self._tracking.enabled:
            self._sync()
        self._synced = time.monotonic()

    def _sync(self) -> None:
        """Bring MLflow up to date. That it is away is said once, and once when it is back."""
        try:
            self._sweep.sync(at_work=True, is_wanted=lambda: not self._over.is_set())
        except TrackingUnavailable as error:
            if not self._refusal and not self._over.is_set():
                print_line(f"{error} The sweep goes on, and MLflow gets it all later.", console=self._console)
            self._refusal = str(error)
        else:
            if self._refusal:
                print_line("MLflow is back, and up to date.", console=self._console)
            self._refusal = ""


def sync_at_the_end(sweep: Sweep, result: SweepResult, console: Console) -> None:
    """Bring MLflow up to date when a sweep has ended, or say how to do so later."""
    is_late = threading.Event()
    later = f"Nothing is lost: run `midre sync {sweep.paths.root}`"

    def sync() -> None:
        try:
            sweep.sync(result, is_wanted=lambda: not is_late.is_set())
        except TrackingRefused as error:
            print_line(f"{error}\n{later} then.", console=console)
        except TrackingUnavailable as error:
            if not is_late.is_set():
                print_line(f"{error}\n{later} when it is back.", console=console)

    thread = threading.Thread(target=sync, name="last sync", daemon=True)
    thread.start()
    thread.join(SERVER_PATIENCE_S if sweep.mlflow_uri.startswith("http") else None)
    if thread.is_alive():
        is_late.set()
        place = without_password(sweep.mlflow_uri)
        print_line(f"MLflow at {place} has not taken all in {SERVER_PATIENCE_S:g} s.\n{later}.", console=console)
