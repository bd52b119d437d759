"""The progress bar that is shown while the images of a spec are decoded for the first time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.spec.checks.images import Watch
from workloads.datasets.reading.census import OnImages

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@contextmanager
def decoding_shown(console: Console) -> Iterator[Watch]:
    """Yield what adds a bar for the images of one side; nothing is shown unless the console is a terminal."""
    with Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal) as progress:

        def watch(description: str, images: int) -> OnImages:
            task = progress.add_task(description, total=images)
            return lambda count: progress.advance(task, count)

        yield watch
