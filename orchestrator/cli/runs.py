"""`midre runs`: the runs of a folder, each with its state, its progress and its best point."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.table import Table
from rich.text import Text

from orchestrator.cli.output import print_json, print_line, stdout
from orchestrator.cli.status import Status
from orchestrator.reports.tables import in_words, number, value_text
from orchestrator.search.pareto import compromise, frontier
from orchestrator.search.space import Objective
from orchestrator.store.ledger import TrialState
from orchestrator.store.paths import RunPaths, Workspace
from orchestrator.sweep import runs_folder


@dataclass(frozen=True)
class RunRow:
    """A run in a list of runs."""

    name: str
    state: str
    """running, done, stopped (trials are missing) or failed (trials have failed)."""
    trials_done: int
    trials: int
    """Trials of the whole sweep, as far as they are certain."""
    best: str
    """The defended point of the frontier that is nearest to the best of every objective, with these; may be empty."""
    updated_at: float | None
    """When something last happened, in seconds since 1970."""

    @staticmethod
    def of(paths: RunPaths) -> RunRow:
        """Read it off ledger and spec."""
        status = Status.of(paths.root)
        trials = list(status.ledger.trials.values())
        done = sum(trial.status == "done" for trial in trials)
        total = max(status.live.trials if status.live else 0, len(trials))
        search = json.loads(paths.resolved.read_text(encoding="utf-8"))["spec"]["search"]
        objectives = [Objective.model_validate(objective) for objective in search["objectives"]]
        state = "running" if status.state == "running" else "done" if done == total else "stopped"
        if state == "stopped" and any(trial.status == "failed" for trial in trials):
            state = "failed"
        return RunRow(paths.root.name, state, done, total, best_point(trials, objectives), status.ledger.updated_at)


def best_point(trials: list[TrialState], objectives: list[Objective]) -> str:
    """The compromise among the defended points of the frontier, in words; empty if there is none yet."""
    names = [objective.metric for objective in objectives]
    points: dict[int, list[TrialState]] = {}
    for trial in trials:
        if trial.status == "done" and set(names) <= set(trial.metrics):
            points.setdefault(trial.point, []).append(trial)
    values = {
        point: [fmean(trial.metrics[name] for trial in alike) for name in names] for point, alike in points.items()
    }
    best = frontier(values, objectives)
    defended = {point: values[point] for point in best if not points[point][0].baseline}
    chosen = compromise(defended, objectives)
    if chosen is None:
        return ""
    numbers = ", ".join(
        f"{in_words(name)} {number(name, value)}" for name, value in zip(names, values[chosen], strict=True)
    )
    return f"{params_in_words(points[chosen][0].params)}: {numbers}"


def params_in_words(params: Mapping[str, object]) -> str:
    """Searched values with the last parts of their paths, such as 'max_area 0.4, max_aspect 3'."""
    return ", ".join(f"{path.rpartition('.')[2]} {value_text(value)}" for path, value in params.items()) or "the spec"


def print_runs(folder: Path | None, *, as_json: bool) -> None:
    """List the runs of a folder: of MIDRE_RUNS, else ./runs, if it is None. The latest comes last."""
    root = runs_folder(folder)
    rows = sorted(map(RunRow.of, Workspace(root).runs()), key=lambda row: row.updated_at or 0.0)
    if as_json:
        print_json([asdict(row) for row in rows])
    elif not rows:
        print_line(f"{root}: no runs.")
    else:
        stdout.print(_table(rows))


def _table(rows: list[RunRow]) -> Table:
    table = Table("run", "state", "trials", "when", "best point", box=None)
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.updated_at)) if row.updated_at else ""
        cells = (row.name, row.state, f"{row.trials_done}/{row.trials}", when, row.best)
        table.add_row(*map(Text, cells))
    return table
