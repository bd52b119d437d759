"""A sweep in front of its user: run under the live display, its log kept, its results as tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cli.display import Display
from orchestrator.errors import TrackingUnavailable
from orchestrator.executors.base import Executor
from orchestrator.reports.tables import attacks_table, points_table, trials_table
from orchestrator.store.paths import without_password
from orchestrator.sweep import Sweep


def run_watched(
    sweep: Sweep, executor: Executor, *, spec_file: Path | None, started: float, console: Console
) -> dict[str, Any]:
    """The published summary of a sweep that was run under the display, with MLflow brought up to date.

    Args:
        started: `time.monotonic()` when the command began.
        console: gets the display, and a line if MLflow is out of reach.
    """
    with _log_file(sweep.paths.log), Display(sweep.id, sweep.search().size, executor.snapshot, console):
        done = sweep.run(executor, spec_file=spec_file)
    jobs = {"run": done.jobs_run, "cached": done.jobs_cached, "failed": done.jobs_failed}
    summary = sweep.publish(seconds=time.monotonic() - started, jobs=jobs)
    if sweep.resolved.spec.tracking.enabled:
        _sync_or_say(sweep, console)
    return summary


def show_results(sweep: Sweep, *, console: Console, again: str = "") -> None:
    """Print the tables of a published sweep and where to look next; `again` is the command that continues it."""
    result = sweep.result()
    console.print(trials_table(result))
    if len(sweep.resolved.spec.attacks) > 1:
        console.print(attacks_table(result))
    console.print(points_table(result))
    lines = [
        f"report:    {sweep.paths.report}",
        f"MLflow:    mlflow server --host 127.0.0.1 --backend-store-uri {without_password(sweep.mlflow_uri)}",
    ]
    for line in [*lines, f"run again: {again}"] if again else lines:
        console.print(line, soft_wrap=True, highlight=False)


def _sync_or_say(sweep: Sweep, console: Console) -> None:
    try:
        sweep.sync()
    except TrackingUnavailable as error:
        console.print(f"{error}\nNothing is lost: `midre sync {sweep.paths.root}` when it is back.", soft_wrap=True)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Everything the libraries log, kept with the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
