"""`midre validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from orchestrator.cli.confirming import confirming_lines
from orchestrator.cli.opening import nodes_at_address, open_sweep
from orchestrator.cli.output import WRONG_REQUEST, print_json, print_line, print_notes, stderr
from orchestrator.cli.resources import lines_by_kind, sized_jobs
from orchestrator.errors import Problem, SpecError, TrackingRefused, TrackingUnavailable
from orchestrator.placement.machine import devices_in_words
from orchestrator.placement.nodes import Node
from orchestrator.sweep import Sweep


def print_problems(spec: Path, overrides: Sequence[str] | None, *, address: str | None, as_json: bool) -> None:
    """Check a spec, and say what is wrong with it, or what should be known of its data and what its jobs will get.

    Raises:
        SpecError: with every problem, unless they were printed as JSON.
        typer.Exit: if problems were printed as JSON.
    """
    nodes = nodes_at_address(address)
    try:
        sweep = open_sweep(spec, overrides, runs=None, nodes=nodes)
        notes = (*sweep.resolved.notes, *_tracking_notes(sweep, spec))
    except SpecError as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": [problem.shape(error.file) for problem in error.problems]})
        raise typer.Exit(WRONG_REQUEST) from error
    if as_json:
        print_json({"ok": True, "problems": [], **({"notes": list(notes)} if notes else {})})
    else:
        stderr.print(f"{spec}: nothing wrong.")
        for line in confirming_lines(sweep):
            print_line(line, console=stderr)
        print_notes(notes)
        _print_resources(sweep, nodes)


def _tracking_notes(sweep: Sweep, spec: Path) -> tuple[str, ...]:
    """That MLflow does not answer now, in a sentence: it may when the sweep has run.

    Raises:
        SpecError: if MLflow will take no results as things are.
    """
    try:
        sweep.check_tracking()
    except TrackingRefused as error:
        raise SpecError(str(spec), [Problem(0, "tracking", str(error))]) from error
    except TrackingUnavailable as error:
        return (str(error),)
    return ()


def _print_resources(sweep: Sweep, nodes: Sequence[Node]) -> None:
    """Say which devices there are, and what each kind of job will get of them."""
    print_line(devices_in_words(nodes), console=stderr)
    if (plan := sweep.first_plan()) is not None:
        jobs = {job.key: job for job in plan.jobs}
        for line in lines_by_kind(jobs, sized_jobs(sweep, [plan], nodes)):
            print_line(line, console=stderr)
