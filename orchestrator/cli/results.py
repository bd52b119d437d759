"""Results of a run: shown as tables, written again (`midre report`), sent to MLflow (`midre sync`)."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cli.output import print_json, print_line, stderr, stdout
from orchestrator.reports.findings import weak_attacks
from orchestrator.reports.tables import attacks_table, optimism_table, points_table, trials_table
from orchestrator.results.numerics import remarks
from orchestrator.results.sweep_result import SweepResult, kept_changes
from orchestrator.store.paths import without_password
from orchestrator.sweep import Sweep


def rewrite_report(run: Path, *, as_json: bool) -> None:
    """Write tables, report and summary of a run again, and print them."""
    sweep = Sweep.reopened(run)
    result = sweep.result()
    cost = _cost_of_run(sweep)
    summary = sweep.publish(result, seconds=cost["seconds"], jobs=cost["jobs"])
    if as_json:
        print_json(summary)
    else:
        show_results(sweep, result, console=stdout)


def _cost_of_run(sweep: Sweep) -> dict[str, Any]:
    """What the last run of a sweep took, as its summary says; what the ledger counts if there is none."""
    if sweep.paths.summary.is_file():
        summary: dict[str, Any] = json.loads(sweep.paths.summary.read_text(encoding="utf-8"))
        return summary
    state = sweep.state()
    jobs = {"run": len(state.jobs_done), "cached": 0, "failed": len(state.jobs_failed)}
    return {"seconds": max((state.updated_at or 0.0) - (state.started_at or 0.0), 0.0), "jobs": jobs}


def sync_run(run: Path) -> None:
    """Send to MLflow what it lacks of a run.

    Raises:
        TrackingUnavailable: if MLflow cannot be reached.
    """
    sweep = Sweep.reopened(run)
    sweep.sync()
    print_line(f"{sweep.id}: MLflow at {without_password(sweep.mlflow_uri)} is up to date.", console=stderr)


def show_results(sweep: Sweep, result: SweepResult, *, console: Console, run_again: str = "") -> None:
    """Print tables of results and where to look next; `run_again` is the command that continues the sweep."""
    console.print(trials_table(result))
    if len(sweep.resolved.spec.attacks) > 1:
        console.print(attacks_table(result))
    console.print(points_table(result))
    if result.stage == "confirm":
        console.print(optimism_table(result))
    for remark in (*weak_attacks(result), *sweep.resolved.notes, *remarks(result.numerics), *kept_changes(result)):
        print_line(remark, console=console)
    print_line(f"report:    {sweep.paths.report}", console=console)
    if sweep.resolved.spec.tracking.enabled:
        print_line(f"MLflow:    {_to_see_mlflow(sweep.mlflow_uri)}", console=console)
    if run_again:
        print_line(f"run again: {run_again}", console=console)


def _to_see_mlflow(uri: str) -> str:
    """The page of a server, or the command that shows a database."""
    if uri.startswith(("http://", "https://", "databricks")):
        return without_password(uri)
    return f"mlflow server --host 127.0.0.1 --backend-store-uri {shlex.quote(without_password(uri))}"
