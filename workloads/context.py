"""What a running job may touch: inputs and output as folders, its generators, its reports, its checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch

from workloads.core.checkpoints import State, load_state, save_state
from workloads.core.config import FrozenConfig
from workloads.core.randomness import generator
from workloads.datasets.base import DATASETS, DatasetConfig, ImageSet


class DataInput(FrozenConfig):
    """A data set and the digest of the bytes it had when the job was planned."""

    dataset: Annotated[DatasetConfig, DATASETS]
    digest: str


@dataclass(frozen=True)
class Progress:
    """How far a job is, for a display: never part of a result."""

    step: int
    steps: int
    metrics: Mapping[str, float]


@dataclass
class JobContext:
    """All a running job may touch: its inputs and output as folders, its device, its random generators, its reports."""

    key: str
    inputs: Mapping[str, Path]
    output: Path
    checkpoint_file: Path
    load_images: Callable[[DataInput], ImageSet]
    memory_gb: float = math.inf
    """What the job was given."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_checkpoint: Callable[[Path], None] = lambda file: None
    checkpoint_every_s: float = 20.0
    _history: list[dict[str, Any]] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """The named CPU generator of this job; the same purpose gives the same stream again."""
        return generator(self.key, *purpose)

    def report(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one step, for the stored history and for whoever watches."""
        self._history.append({"step": step, "time": time.time(), "metrics": dict(metrics)})
        self.on_progress(Progress(step, steps, metrics))

    def checkpoint(self, state: Callable[[], State]) -> None:
        """Save where the job stands, unless it was saved a moment ago; `state` is called only if it is due."""
        if time.monotonic() - self._saved_at >= self.checkpoint_every_s:
            self.checkpoint_file.parent.mkdir(parents=True, exist_ok=True)
            save_state(self.checkpoint_file, {"job": state(), "history": self._history})
            self.on_checkpoint(self.checkpoint_file)
            self._saved_at = time.monotonic()

    def nested(self, name: str, *, saved: State | None, wrap: Callable[[State], State]) -> JobContext:
        """The context of a step of this job that checkpoints by itself.

        Args:
            name: part of the key that its draws come from.
            saved: where an earlier try left the step, as it was wrapped.
            wrap: from the state of the step to that of the whole job.
        """
        own = {field.name: getattr(self, field.name) for field in fields(JobContext) if field.init}
        return _Nested(**own | {"key": f"{self.key}/{name}"}, whole=self, saved=saved, wrap=wrap)

    def resume(self) -> State | None:
        """The state last saved by an earlier try of this job, or None where it starts afresh."""
        if not self.checkpoint_file.exists():
            return None
        saved = load_state(self.checkpoint_file)
        self._history = saved["history"]
        return saved["job"]

    def write_json(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
        (self.output / name).write_text(text, encoding="utf-8")

    def write_history(self) -> None:
        self.write_json("history.json", self._history)


@dataclass
class _Nested(JobContext):
    """A step of a job: its checkpoints lie inside those of the whole."""

    whole: JobContext = field(kw_only=True)
    saved: State | None = field(kw_only=True)
    wrap: Callable[[State], State] = field(kw_only=True)

    def report(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self.whole.report(step, steps, metrics)

    def checkpoint(self, state: Callable[[], State]) -> None:
        self.whole.checkpoint(lambda: self.wrap(state()))

    def resume(self) -> State | None:
        return self.saved
