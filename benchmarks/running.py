"""A spec run from nothing in a process of its own, on a device and with threads that the caller picks."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.opening import open_sweep
from orchestrator.placement.machine import this_machine
from orchestrator.spec.model import ResourcesConfig
from orchestrator.sweep import Sweep


@dataclass(frozen=True)
class Place:
    """Where all jobs of a run compute."""

    device: str
    """`cpu` or `cuda`."""
    threads: int = 1
    """Threads of torch."""

    @staticmethod
    def parse(text: str) -> Place:
        """Read `cpu`, `cuda` or one of them with threads, such as `cpu:2`.

        Raises:
            ArgumentTypeError: if it is none of these.
        """
        device, _, threads = text.partition(":")
        if device not in ("cpu", "cuda") or not (threads or "1").isdigit() or int(threads or "1") < 1:
            rule = "write cpu or cuda, with threads if there are several, as in cpu:2"
            raise argparse.ArgumentTypeError(f"{text!r} is no place: {rule}")
        return Place(device, int(threads or "1"))

    def __str__(self) -> str:
        return f"{self.device}:{self.threads}"

    def overrides(self) -> list[str]:
        """The resources of every kind of job, as `--set` takes them."""
        gpus = int(self.device == "cuda")
        return [
            f"resources.{kind}.{resource}={amount}"
            for kind in ResourcesConfig.kinds()
            for resource, amount in (("cpus", self.threads), ("gpus", gpus))
        ]


class FailedRun(Exception):
    """A run whose jobs did not all succeed."""


def run_apart(spec: Path, overrides: Sequence[str], runs: Path) -> Sweep:
    """Run a spec, one job after another, in a process of its own; results and artifacts lie in `runs`.

    Raises:
        FailedRun: if a job failed or the spec was refused; the process has said why on stderr.
    """
    settings = [*overrides, "tracking.enabled=false"]
    options = [argument for setting in settings for argument in ("--set", setting)]
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--runs", str(runs), "--executor", "inline"]
    ended = subprocess.run([*command, *options], stdout=subprocess.DEVNULL)
    if ended.returncode:
        raise FailedRun(f"{spec}: the run ended with status {ended.returncode}")
    return open_sweep(spec, settings, runs=runs, nodes=[this_machine()])
