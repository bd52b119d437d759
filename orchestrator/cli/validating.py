"""`midre validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from orchestrator.cli.opening import open_sweep
from orchestrator.cli.output import WRONG_REQUEST, print_json, print_notes, stderr
from orchestrator.errors import SpecError


def print_problems(spec: Path, overrides: Sequence[str] | None, *, address: str | None, as_json: bool) -> None:
    """Check a spec, and say what is wrong with it or should be known of its data.

    Raises:
        SpecError: with every problem, unless they were printed as JSON.
        typer.Exit: if problems were printed as JSON.
    """
    try:
        notes = open_sweep(spec, overrides, runs=None, address=address).resolved.notes
    except SpecError as error:
        if not as_json:
            raise
        print_json({"ok": False, "problems": [vars(problem) for problem in error.problems]})
        raise typer.Exit(WRONG_REQUEST) from error
    if as_json:
        print_json({"ok": True, "problems": [], **({"notes": list(notes)} if notes else {})})
    else:
        stderr.print(f"{spec}: nothing wrong.")
        print_notes(notes)
