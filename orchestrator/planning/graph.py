"""Jobs and trials as plain data: what a driver hands to trials, a broker and workers. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What one job occupies while it runs. CPUs are also its threads; a fraction of a GPU shares one."""

    cpus: int = 1
    gpus: float = 0.0
    memory_gb: float = 1.0


@dataclass(frozen=True)
class PlannedJob:
    """One unit of compute: its identity, its config as plain data, the keys it reads, what it occupies."""

    key: str
    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    request: Request


@dataclass(frozen=True)
class Trial:
    """One point of the search space with one training seed."""

    id: str
    point: int
    """Position of the point in the order of asking; 0 is the baseline."""
    params: Mapping[str, Any]
    seed: int
    baseline: bool


@dataclass(frozen=True)
class TrialPlan:
    """A trial with its jobs, inputs before those that read them, and where its numbers come from."""

    trial: Trial
    defenses: tuple[str, ...]
    jobs: tuple[PlannedJob, ...]
    roles: Mapping[str, str]
    """Keys of its jobs by what they are to the trial, such as 'target', 'prior', 'attack/gmi' and 'judged/gmi'."""

    def job(self, role: str) -> PlannedJob:
        return next(job for job in self.jobs if job.key == self.roles[role])

    def measured(self) -> dict[str, str]:
        """Keys of the jobs that leave metrics, by the prefix their numbers get: '' or the attack's name and a dot."""
        prefixes = {"natural": ""} | {
            role: f"{role.removeprefix('judged/')}." for role in self.roles if role.startswith("judged/")
        }
        return {prefix: self.roles[role] for role, prefix in prefixes.items()}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: its numbers, or why there are none."""

    metrics: dict[str, float] | None
    error: str = ""
