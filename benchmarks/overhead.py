"""What a sweep costs beyond its jobs: 200 trials of jobs that do nothing, on Ray, then all of them cached.

Usage: python -m benchmarks.overhead [--trials N] [--executor ray|inline]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestrator.executors.base import Executor, Session
from orchestrator.executors.inline import InlineExecutor
from orchestrator.planning.graph import PlannedJob, Request, Trial, TrialPlan
from orchestrator.planning.machine import this_machine
from orchestrator.store.artifacts import ArtifactStore
from workloads.core.config import digest

LIMITS_S = {"fresh": 20.0, "cached": 5.0}
"""What is asked for 200 trials on two cores; plain Ray Tune without reused trials needs about 210 s."""


class Given:
    """A search whose trials are known beforehand."""

    def __init__(self, count: int) -> None:
        self._waiting = [Trial(f"probe-{index}", index, {}, 0, False) for index in range(count)]

    def next(self) -> Trial | None:
        return self._waiting.pop(0) if self._waiting else None

    def give_back(self, trial: Trial) -> None:
        self._waiting.insert(0, trial)

    def finish(self, trial: str, metrics: Any) -> None:
        """Nothing is learned from a probe."""


def plan(trial: Trial) -> TrialPlan:
    config = {"kind": "probe", "name": trial.id, "value": 0.5}
    job = PlannedJob(digest(config), "probe", config, {}, Request(cpus=1, memory_gb=0.5))
    return TrialPlan(trial, (), (job,), {"natural": job.key})


def measure(executor: Executor, folder: Path, trials: int) -> float:
    """Seconds for a sweep of probes, its store and ledger in `folder`."""
    started = time.perf_counter()
    session = Session(Given(trials), plan, ArtifactStore(folder / "store"), folder / "ledger.jsonl", 20.0)  # type: ignore[arg-type]
    executor.run(session)
    seconds = time.perf_counter() - started
    assert executor.snapshot().trials_done == trials
    return seconds


def build(name: str) -> Executor:
    if name == "inline":
        return InlineExecutor()
    from orchestrator.executors.ray.executor import RayExecutor

    return RayExecutor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--executor", choices=("ray", "inline"), default="ray")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midre-overhead-") as folder:
        seconds = {name: measure(build(asked.executor), Path(folder), asked.trials) for name in LIMITS_S}
    machine = {"cpus": this_machine().cpus}
    ratios = {name: round(own / (LIMITS_S[name] * asked.trials / 200), 2) for name, own in seconds.items()}
    print(json.dumps({"trials": asked.trials, "seconds": seconds, "share_of_limit": ratios, "machine": machine}))


if __name__ == "__main__":
    main()
