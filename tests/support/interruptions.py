"""A job that loses its machine on the way, to see whether the next try ends with the same bits."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from workloads.context import JobContext, Progress


class Interrupted(Exception):
    """Stands for the loss of the machine."""


def context_at(folder: Path, *, stop_at: int | None = None, stop_after: int | None = None) -> JobContext:
    """A context that reads no images and ends with `Interrupted` where it is told to.

    Args:
        folder: holds the output and the checkpoint of one try, and of the next.
        stop_at: ends it at this reported step.
        stop_after: ends it after that many checkpoints.

    One that is to end so checkpoints after every step, any other never.
    """
    folder.mkdir(exist_ok=True)
    saved = itertools.count(1)

    def watch_steps(progress: Progress) -> None:
        if progress.step == stop_at:
            raise Interrupted

    def watch_checkpoints(file: Path) -> None:
        if next(saved) == stop_after:
            raise Interrupted

    return JobContext(
        key="0" * 64,
        inputs={},
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda data: pytest.fail("this job is given its images"),
        on_progress=watch_steps,
        on_checkpoint=watch_checkpoints,
        checkpoint_every_s=math.inf if stop_at is None and stop_after is None else 0,
    )
