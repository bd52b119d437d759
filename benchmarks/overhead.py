"""Measure what a sweep costs beyond its jobs: 200 trials of jobs that do nothing, on Ray, then all of them cached.

Usage: python -m benchmarks.overhead [--trials N] [--executor ray|inline]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.executors.base import Executor, Session
from orchestrator.executors.inline import InlineExecutor
from orchestrator.placement.machine import this_machine
from orchestrator.placement.sizing import Needs
from orchestrator.planning.graph import PlannedJob, Trial, TrialKeys, TrialPlan
from orchestrator.store.artifacts import ArtifactStore
from workloads.core.config import digest

LIMITS_S = {"fresh": 20.0, "cached": 5.0}
"""Most seconds that 200 trials may take on two cores; plain Ray Tune without reused trials needs about 210."""


class Probes:
    """A search that runs a fixed number of trials and learns nothing."""

    def __init__(self, count: int) -> None:
        self._waiting = [Trial(f"probe-{index}", index, {}, 0, False) for index in range(count)]

    def next(self) -> Trial | None:
        return self._waiting.pop(0) if self._waiting else None

    @property
    def waits(self) -> bool:
        return False

    def give_back(self, trial: Trial) -> None:
        self._waiting.insert(0, trial)

    def finish(self, trial: str, metrics: Mapping[str, float] | None) -> None:
        """Ignore what a probe reports."""


def plan(trial: Trial) -> TrialPlan:
    """Plan a trial of one job that does nothing."""
    config = {"kind": "probe", "name": trial.id, "value": 0.5}
    job = PlannedJob(digest(config), "probe", config, {}, Needs(cpus=1, gpus=0, memory_gb=0.5))
    keys = TrialKeys(judges=(), target=job.key, natural=job.key)
    return TrialPlan(trial, (), (job,), keys)


def measure(executor: Executor, folder: Path, trials: int) -> float:
    """Seconds that a sweep of probes takes, with its store and ledger in `folder`."""
    started = time.perf_counter()
    session = Session(Probes(trials), plan, ArtifactStore(folder / "store"), folder / "ledger.jsonl", 20.0)
    executor.run(session)
    seconds = time.perf_counter() - started
    assert executor.snapshot().trials_done == trials
    return seconds


def build(name: str) -> Executor:
    """Build the executor with this name; Ray is imported only for its own."""
    if name == "inline":
        return InlineExecutor()
    from orchestrator.executors.ray.executor import RayExecutor

    return RayExecutor()


def main() -> None:
    """Run the measurement and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--executor", choices=("ray", "inline"), default="ray")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midre-overhead-") as folder:
        seconds = {name: measure(build(arguments.executor), Path(folder), arguments.trials) for name in LIMITS_S}
    machine = {"cpus": this_machine().cpus}
    ratios = {name: round(taken / (LIMITS_S[name] * arguments.trials / 200), 2) for name, taken in seconds.items()}
    print(json.dumps({"trials": arguments.trials, "seconds": seconds, "share_of_limit": ratios, "machine": machine}))


if __name__ == "__main__":
    main()
