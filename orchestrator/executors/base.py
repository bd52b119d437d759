"""What an executor promises: every trial of a search is run, and every event is on disk before anybody learns of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.executors.snapshot import Snapshot
from orchestrator.executors.stopping import Stop
from orchestrator.planning.graph import Trial, TrialPlan
from orchestrator.store.artifacts import ArtifactStore

if TYPE_CHECKING:  # torch is heavy, and the processes of Ray that compute nothing do without
    from workloads.context import DataInput


class TrialSource(Protocol):
    """What an executor needs of a search, which is one."""

    def next(self) -> Trial | None:
        """Take the next trial to run; None if there are no more, or none yet."""

    @property
    def waits(self) -> bool:
        """Whether trials may follow, though `next` has none before those at work have ended."""

    def give_back(self, trial: Trial, /) -> None:
        """Return a trial that was taken but not started, so that it comes next again."""

    def finish(self, trial: str, metrics: Mapping[str, float] | None, /) -> None:
        """Tell how a trial ended: its results by name, or None if it failed."""


@dataclass
class Session:
    """What an executor needs for one run of a sweep: the search, how a trial becomes jobs, where results are kept."""

    search: TrialSource
    plan: Callable[[Trial], TrialPlan]
    store: ArtifactStore
    ledger: Path
    checkpoint_every_s: float
    """Seconds between checkpoints of a job, at least."""
    certain_plans: Callable[[], Sequence[TrialPlan]] = tuple
    """Returns the plans of all trials that are certain to be run, so that their first jobs can fill idle time."""
    data: Sequence[DataInput] = ()
    """The data sets that jobs read, which every node must have alike."""
    announce: Callable[[str], None] = lambda text: None
    """Tells the user in a line what takes long."""
    stop: Stop = field(default_factory=Stop)
    """Whether the run is asked to end."""
    accepted_changes: Sequence[str] = ()
    """Changed files whose old results are used, such as `random_erasing`."""


class Executor(ABC):
    """Runs all trials of a session. A failed trial is recorded and the others go on."""

    @abstractmethod
    def run(self, session: Session) -> None:
        """Run until the search has no more trials, or the run is asked to end."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Describe what is going on; another thread may call this at any time."""
