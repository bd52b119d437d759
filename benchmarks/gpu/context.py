"""The context of a job that nobody stores: it reads no data, keeps no checkpoint and leaves no file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from workloads.context import JobContext, Progress


def unstored_context(device: torch.device, on_progress: Callable[[Progress], None]) -> JobContext:
    """A context for a loop that is measured. Nothing is ever at its paths."""
    nowhere = Path("/nonexistent")
    return JobContext(
        key="benchmark",
        inputs={},
        output=nowhere,
        checkpoint_file=nowhere / "checkpoint",
        load_images=_refuse,
        device=device,
        on_progress=on_progress,
        checkpoint_every_s=math.inf,
    )


def _refuse(data: object) -> NoReturn:
    raise AssertionError("a loop that is measured has its images already")
