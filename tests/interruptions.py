"""A job that loses its machine at a step it reports, to see whether the next try ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.context import JobContext, Progress


class Interrupted(Exception):
    """Stands for the loss of the machine."""


def context_at(folder: Path, *, stop_at: int | None = None) -> JobContext:
    """A context that ends with `Interrupted` at a reported step, and until then checkpoints after every step."""

    def watch(progress: Progress) -> None:
        if progress.step == stop_at:
            raise Interrupted

    return JobContext(
        key="0" * 64,
        inputs={},
        output=folder,
        checkpoint_file=folder / "checkpoint.safetensors",
        load_images=lambda data: pytest.fail("this job is given its images"),
        on_progress=watch,
        checkpoint_every_s=3600 if stop_at is None else 0,
    )
