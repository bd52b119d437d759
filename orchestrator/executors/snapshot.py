"""What an executor has done and is doing, as plain data, and how long the rest will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.planning.graph import PlannedJob


@dataclass(frozen=True)
class RunningJob:
    """A job at work."""

    key: str
    kind: str
    since: float
    """When it was started, in seconds since 1970."""
    step: int = 0
    """Steps done, of those in `steps`; both are 0 until the job reports."""
    steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers it reported last, such as a loss."""
    waits_for: str = ""
    """What its worker waits for before it can begin, in words; empty while it does not."""
    node: str = ""
    """Name of its machine."""
    device: str = ""
    """What it computes on, such as '2 CPUs' or 'GPU 0'."""

    def left_s(self, now: float) -> float | None:
        """Seconds that its steps will take at the speed of those so far; None before the first."""
        if not self.step or self.waits_for:
            return None
        return seconds_between(self.since, now) / self.step * max(self.steps - self.step, 0)


@dataclass(frozen=True)
class WaitingJob:
    """A job of a trial under way that has not begun."""

    key: str
    kind: str
    since: float
    """Since when it waits, in seconds since 1970."""
    reason: str
    """What for, in words."""


@dataclass(frozen=True)
class NodeUse:
    """A machine, with what the jobs of this run leave of it."""

    id: str
    host: str
    cpus: float
    cpus_free: float
    gpus: float
    gpus_free: float
    memory_gb: float
    memory_gb_free: float


def seconds_between(earlier: float, later: float) -> float:
    """How long it was between two readings of a clock; never less than nothing, though clocks are set back."""
    return max(later - earlier, 0.0)


@dataclass(frozen=True)
class Tally:
    """Jobs of one kind and shape, which take about the same time."""

    over: int = 0
    """How many are done or have failed."""
    timed: int = 0
    """How many of them were run, not found in the store."""
    seconds: float = 0.0
    """How long these took together."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.over + other.over, self.timed + other.timed, self.seconds + other.seconds)


@dataclass(frozen=True)
class Snapshot:
    """What an executor has done so far and is doing now, for displays."""

    jobs_run: int = 0
    jobs_cached: int = 0
    """Jobs whose artifacts were in the store already."""
    jobs_failed: int = 0
    trials_done: int = 0
    trials_failed: int = 0
    running: tuple[RunningJob, ...] = ()
    waiting: tuple[WaitingJob, ...] = ()
    nodes: tuple[NodeUse, ...] = ()
    trouble: str = ""
    """What keeps all jobs from beginning, such as a full store; empty while nothing does."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """Jobs that are over, by `group_of`."""


def group_of(job: PlannedJob) -> str:
    """The same for jobs that take about the same time: kind and shape."""
    return f"{job.kind} {job.shape}".strip()


def left_s(snapshot: Snapshot, totals: Mapping[str, int], now: float) -> float | None:
    """Seconds until all jobs are over, by the durations of those of the same kind and shape, else of the same kind.

    As many jobs are taken to go on at a time as now. None while there is a kind of which none has been run.

    Args:
        totals: number of jobs of the sweep, by `group_of`.
        now: seconds since 1970.
    """
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for group, tally in snapshot.tallies.items():
        seconds_and_count = kinds[group.partition(" ")[0]]
        seconds_and_count[0] += tally.seconds
        seconds_and_count[1] += tally.timed
    work = 0.0
    for group, total in totals.items():
        tally = snapshot.tallies.get(group, Tally())
        seconds, timed = (tally.seconds, float(tally.timed)) if tally.timed else kinds[group.partition(" ")[0]]
        if total > tally.over:
            if not timed:
                return None
            work += (total - tally.over) * seconds / timed
    at_work = [job for job in snapshot.running if not job.waits_for]
    work -= sum(seconds_between(job.since, now) for job in at_work)
    return max(work, 0.0) / max(len(at_work), 1)
