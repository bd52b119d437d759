"""What an executor promises: every trial of a search is run, and the ledger hears of everything before anybody else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import DamagedArtifact
from orchestrator.planning.graph import PlannedJob, Trial, TrialPlan
from orchestrator.store.artifacts import ArtifactStore

if TYPE_CHECKING:
    from orchestrator.search.search import Search  # imports torch, which brokers and trials do without


class Append(Protocol):
    def __call__(self, event: str, **facts: Any) -> Any: ...


@dataclass(frozen=True)
class RunningJob:
    """A job at work, for a display."""

    key: str
    kind: str
    since: float
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """What an executor is doing, for a display."""

    jobs_run: int = 0
    jobs_cached: int = 0
    jobs_failed: int = 0
    trials_done: int = 0
    trials_failed: int = 0
    running: tuple[RunningJob, ...] = ()


@dataclass
class Session:
    """One life of a sweep: what it searches, how a trial becomes jobs, and where everything is kept."""

    search: Search
    plan: Callable[[Trial], TrialPlan]
    store: ArtifactStore
    ledger: Path
    checkpoint_every_s: float
    known: Callable[[], Sequence[TrialPlan]] = tuple
    """Plans of all trials that are sure to be asked for, so that their first jobs can fill idle time."""


class Executor(ABC):
    """Runs all trials of a session. A failed trial is recorded and the others go on."""

    @abstractmethod
    def run(self, session: Session) -> None:
        """Run until the search has no more trials."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """What is going on, callable from another thread at any time."""


class Book:
    """Keeps the record of a session's trials and jobs: what is in the store, what failed, what the ledger is told."""

    def __init__(self, store: ArtifactStore, append: Append) -> None:
        self._store, self._append = store, append
        self._done: set[str] = set()
        self.run: set[str] = set()
        self.cached: set[str] = set()
        self.failed: dict[str, str] = {}
        self.trials_done: set[str] = set()
        self.trials_failed: set[str] = set()

    def has(self, key: str) -> bool:
        """True where a job's artifact is in the store, whole; a damaged one is moved aside and reported."""
        if key in self._done:
            return True
        try:
            found = self._store.verified(key) is not None
        except DamagedArtifact as error:
            self.set_aside(error)
            return False
        if found:
            self._done.add(key)
            self.cached.add(key)
        return found

    def set_aside(self, damage: DamagedArtifact) -> None:
        """Move a damaged artifact out of the way, so that its job runs again."""
        self._done.discard(damage.key)
        self.cached.discard(damage.key)
        self._append(
            "artifact_damaged", key=damage.key, reason=damage.reason, moved_to=self._store.set_aside(damage.key)
        )

    def is_cached(self, plan: TrialPlan) -> bool:
        return all(self.has(job.key) for job in plan.jobs)

    def start_trial(self, plan: TrialPlan) -> None:
        trial = plan.trial
        self._append(
            "trial_started",
            trial=trial.id,
            point=trial.point,
            params=dict(trial.params),
            seed=trial.seed,
            baseline=trial.baseline,
        )

    def start_job(self, job: PlannedJob, **where: Any) -> None:
        self._append("job_started", key=job.key, kind=job.kind, request=vars(job.request), **where)

    def finish_job(self, job: PlannedJob, facts: Mapping[str, Any]) -> None:
        self._append("job_done", key=job.key, kind=job.kind, facts=dict(facts))
        self._done.add(job.key)
        self.run.add(job.key)

    def retry_job(self, job: PlannedJob, error: str, *, cause: str) -> None:
        self._append("job_failed", key=job.key, kind=job.kind, error=error, cause=cause, final=False)

    def fail_job(self, job: PlannedJob, error: str, *, cause: str) -> None:
        self._append("job_failed", key=job.key, kind=job.kind, error=error, cause=cause, final=True)
        self.failed[job.key] = f"{job.kind} {job.key[:12]}: {error}"

    def finish_trial(self, plan: TrialPlan) -> dict[str, float] | None:
        """Record how a trial ended: its numbers by name, or None where one of its jobs failed."""
        errors = [self.failed[job.key] for job in plan.jobs if job.key in self.failed]
        if errors:
            self._append("trial_failed", trial=plan.trial.id, error=errors[0])
            self.trials_failed.add(plan.trial.id)
            return None
        metrics = numbers(plan, self._store)
        self._append("trial_done", trial=plan.trial.id, metrics=metrics)
        self.trials_done.add(plan.trial.id)
        return metrics

    def snapshot(self, running: tuple[RunningJob, ...]) -> Snapshot:
        return Snapshot(
            jobs_run=len(self.run),
            jobs_cached=len(self.cached - self.run),
            jobs_failed=len(self.failed),
            trials_done=len(self.trials_done),
            trials_failed=len(self.trials_failed),
            running=running,
        )


def numbers(plan: TrialPlan, store: ArtifactStore) -> dict[str, float]:
    """Every number of a finished trial by its name.

    Raises:
        DamagedArtifact: if one cannot be read.
    """
    return {
        f"{prefix}{name}": estimate["value"]
        for prefix, key in plan.measured().items()
        for name, estimate in store.read_json(key, "metrics.json")["estimates"].items()
    }
