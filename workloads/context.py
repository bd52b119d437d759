"""What a running job may touch: its inputs and output as folders, its generators, its reports, its checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, TypedDict

import torch

from workloads.core.checkpoints import State, load_state, save_state
from workloads.core.config import FrozenConfig
from workloads.core.errors import JobStopped
from workloads.core.randomness import generator, global_draws, rewind
from workloads.datasets.base import DATASETS, DatasetConfig, ImageSet


class DataInput(FrozenConfig):
    """A data set and the digest of the bytes it had when the job was planned."""

    dataset: Annotated[DatasetConfig, DATASETS]
    """Settings of the data set."""
    digest: str
    """SHA-256 of its files, so that a job never reads others than it was planned for."""


@dataclass(frozen=True)
class Progress:
    """How far a job is, for a display: never part of a result."""

    step: int
    """Steps done, of those in `steps`."""
    steps: int
    metrics: Mapping[str, float]
    """Numbers of this step by name, such as a loss."""


class HistoryRow(TypedDict):
    """What a job reported at one step, as `history.json` stores it."""

    step: int
    time: float
    metrics: dict[str, float]


@dataclass
class Clock:
    """Seconds that a job has taken: in this try, and in those before up to the checkpoint that it continues."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Over all tries until now."""
        return self.before + time.monotonic() - self.started


@dataclass
class JobContext:
    """Everything a running job may touch; it reads and writes nothing else."""

    key: str
    """Digest of all that determines the job's result."""
    inputs: Mapping[str, Path]
    """Folders of the artifacts it reads, by the role they have for it."""
    output: Path
    """Folder for what it leaves."""
    checkpoint_file: Path
    """Where its checkpoint lies, whether there is one yet or not."""
    load_images: Callable[[DataInput], ImageSet]
    """Reads a data set; several jobs of a process may share what it returns."""
    memory_gb: float = math.inf
    """Memory the job may use, in GiB."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where its tensors belong."""
    on_progress: Callable[[Progress], None] = lambda progress: None
    """Called at every reported step."""
    on_checkpoint: Callable[[Path], None] = lambda file: None
    """Called with the file of every checkpoint that was saved."""
    checkpoint_every_s: float = 20.0
    """Seconds between checkpoints, at least."""
    should_stop: Callable[[], bool] = lambda: False
    """Whether the job is to end at its next checkpoint."""
    sent_by_earlier_tries: int = 0
    """Images that earlier tries of the job sent to a service."""
    keep_sent: Callable[[int], None] = lambda sent: None
    """Stores how many images the job has sent to a service, over all tries."""
    code: str = ""
    """Digest of the code that computes the job: a checkpoint that other code left is not continued."""
    clock: Clock = field(default_factory=Clock)
    """How long the job takes."""
    _history: list[HistoryRow] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Make the CPU generator of this job for a purpose; the same purpose gives the same stream again."""
        return generator(self.key, *purpose)

    def device_generator(self) -> torch.Generator:
        """Make a generator that draws on the job's device, for `rewind` to put at the start of a stream."""
        return torch.Generator(self.device if self.device.type == "cuda" else "cpu")

    def rewind(self, draws: torch.Generator, *purpose: str | int) -> torch.Generator:
        """Put a generator at the start of the stream of a purpose: on a CPU, that of `generator`. Returns it."""
        return rewind(draws, self.key, *purpose)

    def global_draws(self, *purpose: str | int) -> AbstractContextManager[None]:
        """While the block runs, layers such as dropout draw the stream of a purpose."""
        return global_draws(self.key, *purpose, device=self.device)

    def report(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one step, for the stored history and for displays."""
        self._history.append({"step": step, "time": time.time(), "metrics": dict(metrics)})
        self.on_progress(Progress(step, steps, metrics))

    def checkpoint(self, state: Callable[[], State]) -> None:
        """Save where the job stands, unless it was saved a moment ago; `state` is called only if it is due.

        Raises:
            JobStopped: after it was saved, if the job is to end.
        """
        stops = self.should_stop()
        if stops or time.monotonic() - self._saved_at >= self.checkpoint_every_s:
            seconds = self.clock.seconds
            stands = {"job": state(), "history": self._history, "code": self.code, "seconds": seconds}
            save_state(self.checkpoint_file, stands)
            self.on_checkpoint(self.checkpoint_file)
            self._saved_at = time.monotonic()
        if stops:
            raise JobStopped("asked to end; it has saved where it stands")

    def nested(self, name: str, *, saved: State | None, wrap: Callable[[State], State]) -> JobContext:
        """Make the context of a step of this job that reports and checkpoints by itself.

        Args:
            name: part of the key from which its random numbers are drawn.
            saved: the state in which an earlier try left the step, or None.
            wrap: turns the state of the step into that of the job around it.
        """
        values = {item.name: getattr(self, item.name) for item in fields(JobContext) if item.init}
        return _NestedContext(**values | {"key": f"{self.key}/{name}"}, parent=self, saved=saved, wrap=wrap)

    def resume(self) -> State | None:
        """Load the state last saved by an earlier try of this job; None if there is none, or other code saved it."""
        if not self.checkpoint_file.exists():
            return None
        saved = load_state(self.checkpoint_file)
        if saved.get("code", self.code) != self.code:
            return None
        self._history = saved["history"]
        self.clock.before = saved.get("seconds", 0.0)
        return saved["job"]

    def write_json(self, name: str, value: object) -> None:
        """Write plain data as a JSON file of the output.

        Raises:
            ValueError: for NaN and infinities, which JSON does not have.
        """
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
        (self.output / name).write_text(text, encoding="utf-8")

    def write_history(self) -> None:
        """Write everything reported so far, also by earlier tries, to `history.json`."""
        self.write_json("history.json", self._history)


@dataclass
class _NestedContext(JobContext):
    """The context of a step of a job: its checkpoints lie inside those of the job around it."""

    parent: JobContext = field(kw_only=True)
    saved: State | None = field(kw_only=True)
    wrap: Callable[[State], State] = field(kw_only=True)

    def report(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self.parent.report(step, steps, metrics)

    def checkpoint(self, state: Callable[[], State]) -> None:
        self.parent.checkpoint(lambda: self.wrap(state()))

    def resume(self) -> State | None:
        return self.saved
