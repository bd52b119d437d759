"""`midre rerun`: a sweep run again from nothing, its numbers beside the old ones."""

from __future__ import annotations

from pathlib import Path

import typer

from orchestrator.cli.opening import nodes_at_address, open_sweep
from orchestrator.cli.options import ExecutorName
from orchestrator.cli.output import TRIALS_FAILED, print_json, print_line, stderr, stdout
from orchestrator.cli.running import executor_of, run_watched
from orchestrator.reports.tables import comparison_table
from orchestrator.rerun import MLFLOW_ID, original_run
from orchestrator.results.comparison import compare
from orchestrator.store.paths import Workspace
from orchestrator.sweep import runs_folder


def rerun_and_compare(
    source: str,
    *,
    runs: Path | None,
    executor: ExecutorName,
    address: str | None,
    mlflow_uri: str | None,
    started: float,
    as_json: bool,
) -> None:
    """Run again what `source` names, a run folder, a spec file or an MLflow run, and print old and new numbers.

    Raises:
        RequestError: if `source` names no finished run.
        typer.Exit: if a number differs or is missing.
    """
    if Path(source).is_file():
        source = str(open_sweep(Path(source), None, runs=runs, nodes=nodes_at_address(address)).paths.root)
    elif not Path(source).is_dir() and not MLFLOW_ID.fullmatch(source):
        source = str(Workspace(runs_folder(runs)).find(source).root)
    original = original_run(source, runs=runs_folder(runs), mlflow_uri=mlflow_uri)
    sweep = original.rerun()
    finished = run_watched(
        sweep, executor_of(executor, address, sweep), spec_file=None, started=started, console=stderr
    )
    rows = compare(original.summary, finished.summary)
    if as_json:
        numbers = [{**vars(row), "verdict": row.verdict} for row in rows]
        print_json({"sweep": sweep.id, "run": str(sweep.paths.root), "numbers": numbers})
    else:
        stdout.print(comparison_table(rows, title=f"rerun of {sweep.id}"))
        print_line(f"results: {sweep.paths.root}")
    if finished.stop.is_requested:
        raise typer.Exit(finished.exit_status)
    if any(row.verdict in ("different", "missing") for row in rows):
        raise typer.Exit(TRIALS_FAILED)
