"""The live display of a run, on stderr: trials, running jobs with their latest metrics, time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.executors.snapshot import RunningJob, Snapshot, seconds_between

LINE_EVERY_S = 60.0
"""Seconds between lines if stderr is not a terminal."""


class Display:
    """Shows an executor's snapshots while a `with` block runs: live on a terminal, else one line a minute."""

    def __init__(
        self,
        sweep: str,
        trials: int,
        snapshot: Callable[[], Snapshot],
        console: Console,
        left_s: Callable[[Snapshot], float | None],
    ) -> None:
        """`left_s` returns the seconds until the end, or None while that cannot be told."""
        self._left_s = left_s
        self._sweep, self._trials, self._snapshot = sweep, trials, snapshot
        self._started = time.monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)
        self._console = console
        self._over = threading.Event()
        self._lines = threading.Thread(target=self._print_lines, daemon=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._over.set()
            self._lines.join()

    def _print_lines(self) -> None:
        while not self._over.wait(LINE_EVERY_S):
            now = self._snapshot()
            finished = now.trials_done + now.trials_failed
            at_work = ", ".join(f"{job.kind} {_share(job)}" for job in now.running) or "nothing"
            self._console.print(
                f"{self._sweep}: {finished}/{self._trials} trials, {now.jobs_run} jobs run, {self._left(now)}; "
                f"at work: {at_work}",
                soft_wrap=True,
            )

    def _render(self) -> RenderableType:
        now = self._snapshot()
        finished = now.trials_done + now.trials_failed
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self._sweep, style="bold"),
            ProgressBar(total=max(self._trials, 1), completed=finished, width=30),
            f"{finished}/{self._trials} trials",
            f"jobs: {now.jobs_run} run, {now.jobs_cached} cached, {now.jobs_failed} failed",
            self._left(now),
        )
        return Group(head, _running(now.running))

    def _left(self, now: Snapshot) -> str:
        left = self._left_s(now)
        return f"{time.monotonic() - self._started:.0f} s" + (f", about {left:.0f} s left" if left is not None else "")


def _running(jobs: tuple[RunningJob, ...]) -> Table:
    table = Table.grid(padding=(0, 2))
    for job in jobs:
        metrics = "  ".join(f"{name} {value:.4g}" for name, value in job.metrics.items())
        at_work = f"{seconds_between(job.since, time.time()):.0f} s"
        table.add_row(f"  {job.kind}", job.key[:8], _share(job), at_work, metrics)
    return table


def _share(job: RunningJob) -> str:
    if job.waits_for:
        return job.waits_for
    return f"{job.step}/{job.steps}" if job.steps else "starting"
