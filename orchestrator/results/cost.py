"""What a sweep has occupied so far, over all of its runs: it adds up in the ledger, and no later run takes from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.core.words import counted


@dataclass(frozen=True)
class Cost:
    """CPUs and GPUs times hours, of the jobs that the sweep's own runs computed; results found in a store are free."""

    jobs: int = 0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0

    def __str__(self) -> str:
        """The cost in words; GPUs only where there were some."""
        gpus = f" and {self.gpu_hours:.3g} GPU hours" if self.gpu_hours else ""
        return f"{counted(self.jobs, 'job{s}')}, {self.cpu_hours:.3g} CPU hours{gpus}"


NOTHING = Cost()


def cost_of(jobs: Iterable[Mapping[str, Any]]) -> Cost:
    """Add up jobs that are done, by their events in the ledger."""
    facts = [job["facts"] for job in jobs]
    return Cost(len(facts), *(round(_hours(facts, unit), 4) for unit in ("cpus", "gpus")))


def _hours(facts: Iterable[Mapping[str, Any]], unit: str) -> float:
    return float(sum(fact.get("seconds", 0.0) * fact.get("request", {}).get(unit, 0) for fact in facts)) / 3600
