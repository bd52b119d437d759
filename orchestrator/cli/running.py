"""`midre run`: a sweep run under the live display, its log kept, its results published and shown."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from orchestrator.cli.changes import check_accepted, print_changes
from orchestrator.cli.display import Display
from orchestrator.cli.live_status import StatusWriter
from orchestrator.cli.opening import nodes_at_address, open_sweep
from orchestrator.cli.options import ExecutorName
from orchestrator.cli.output import TRIALS_FAILED, print_json, print_line, print_notes, stderr, stdout
from orchestrator.cli.publishing import Publisher, sync_at_the_end
from orchestrator.cli.results import show_results
from orchestrator.executors.base import Executor
from orchestrator.executors.inline import InlineExecutor
from orchestrator.executors.logs import run_log
from orchestrator.executors.stopping import Stop
from orchestrator.placement.machine import devices_in_words
from orchestrator.results.numerics import remarks
from orchestrator.results.sweep_result import SweepResult, kept_changes
from orchestrator.store.temporary import remove_abandoned
from orchestrator.sweep import Sweep

STATUS_VARIABLE = "MIDRE_STATUS"
"""Tells the command of `on_end` the exit status of the run."""
STDERR = 2
"""Where what it prints goes: stdout is for results."""
ON_END_PATIENCE_S = 60.0
"""How long that command may take."""


@dataclass(frozen=True)
class FinishedRun:
    """The results of a sweep that was run, and the summary that was written from them."""

    result: SweepResult
    summary: dict[str, Any]
    stop: Stop
    """Whether it was asked to end before it was done."""

    @property
    def exit_status(self) -> int:
        """That of the signal that stopped it, else 1 if a job failed or a trial has no results, else 0."""
        unfinished = any(trial["status"] != "done" for trial in self.summary["trials"])
        failed = bool(self.summary["jobs"]["failed"]) or unfinished
        return self.stop.exit_status or (TRIALS_FAILED if failed else 0)


def run_spec(
    spec: Path,
    overrides: Sequence[str] | None,
    *,
    runs: Path | None,
    executor: ExecutorName,
    address: str | None,
    accepted_changes: Sequence[str],
    started: float,
    as_json: bool,
) -> None:
    """Run the sweep of a spec and print its results.

    Raises:
        RequestError: if a change is accepted that there is not.
        typer.Exit: if a job or a trial failed, or a signal stopped the run.
    """
    nodes = nodes_at_address(address)
    sweep = open_sweep(spec, overrides, runs=runs, nodes=nodes)
    print_line(devices_in_words(nodes), console=stderr)
    print_notes(sweep.resolved.notes)
    check_accepted(sweep, accepted_changes)
    print_changes(sweep.changed(accepted_changes))
    finished = run_watched(
        sweep,
        executor_of(executor, address, sweep),
        spec_file=spec,
        accepted_changes=accepted_changes,
        started=started,
        console=stderr,
    )
    run_again = command_line(
        spec, overrides or (), sweep.workspace.root, executor=executor, address=address, accepted=accepted_changes
    )
    if as_json:
        print_json(finished.summary)
        for remark in (*remarks(finished.result.numerics), *kept_changes(finished.result)):
            print_line(remark, console=stderr)
    else:
        show_results(sweep, finished.result, console=stdout, run_again="" if finished.stop.is_requested else run_again)
    if finished.stop.is_requested:
        print_line(f"Stopped by {finished.stop.reason}. Continue with: {run_again}", console=stderr)
    if finished.exit_status:
        raise typer.Exit(finished.exit_status)


def command_line(
    spec: Path,
    overrides: Sequence[str],
    runs: Path,
    *,
    executor: ExecutorName,
    address: str | None,
    accepted: Sequence[str],
) -> str:
    """The command that continues a run, as it can be pasted into a shell."""
    words = ["midre", "run", str(spec)]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--runs", str(runs)]
    words += ["--executor", executor.value] if executor is not ExecutorName.ray else []
    words += ["--address", address] if address else []
    words += [word for change in accepted for word in ("--accept-changed", change)]
    return shlex.join(words)


def run_watched(
    sweep: Sweep,
    executor: Executor,
    *,
    spec_file: Path | None,
    accepted_changes: Sequence[str] = (),
    started: float,
    console: Console,
) -> FinishedRun:
    """Run a sweep under the live display, publish its results and bring MLflow up to date.

    A signal ends it in order: jobs at work save where they stand, and what is done is published.

    Args:
        spec_file: is copied into the run folder.
        accepted_changes: changed files whose old results are used.
        started: `time.monotonic()` when the command began.
        console: shows the display, and a line if MLflow cannot be reached.

    Raises:
        RequestError: if the store has less room than the run is known to need.
        StoreUnavailable: if it cannot be written to.
    """
    remove_abandoned()
    sweep.check_room()
    stop = Stop(sweep.resolved.spec.storage.grace_s)
    with stop.listening(), run_log(sweep.paths.log):
        with (
            stop.followed_by(lambda: print_line(_stopping(stop), console=console)),
            StatusWriter(sweep, executor.snapshot, lambda text: print_line(text, console=console)) as status,
            Display(sweep.id, sweep.search().size, executor.snapshot, console, status.left_s),
            Publisher(sweep, executor.snapshot, console, started=started),
        ):
            done = sweep.run(
                executor,
                spec_file=spec_file,
                accepted_changes=accepted_changes,
                announce=lambda text: print_line(text, console=console),
                stop=stop,
            )
        result = sweep.result()
        jobs = {"run": done.jobs_run, "cached": done.jobs_cached, "failed": done.jobs_failed}
        summary = sweep.publish(result, seconds=time.monotonic() - started, jobs=jobs)
        if sweep.resolved.spec.tracking.enabled:
            sync_at_the_end(sweep, result, console)
    finished = FinishedRun(result, summary, stop)
    if command := sweep.resolved.spec.on_end:
        tell(command, summary, finished.exit_status, console)
    return finished


def _stopping(stop: Stop) -> str:
    return (
        f"{stop.reason}: stopping; jobs at work have {stop.grace_s:g} s to save where they stand. Again stops at once."
    )


def executor_of(name: ExecutorName, address: str | None, sweep: Sweep) -> Executor:
    """The executor of this name for a sweep; Ray joins the cluster at `address`, or starts one on this machine."""
    if name is ExecutorName.inline:
        return InlineExecutor()
    from orchestrator.executors.ray.executor import RayExecutor  # Ray is heavy, and only this executor needs it

    return RayExecutor(address, start_mps=sweep.resolved.spec.resources.start_mps)


def tell(command: str, summary: dict[str, Any], status: int, console: Console) -> None:
    """Run the spec's `on_end` with the summary on stdin; that it fails is a line, and nothing else."""
    try:
        subprocess.run(
            shlex.split(command),
            input=json.dumps(summary) + "\n",
            text=True,
            env={**os.environ, STATUS_VARIABLE: str(status)},
            timeout=ON_END_PATIENCE_S,
            check=True,
            stdout=STDERR,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print_line(f"on_end: {error}", console=console)
