"""`midre status`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.output import print_json, stdout
from orchestrator.errors import RequestError
from orchestrator.store.ledger import run_state
from orchestrator.store.paths import RunPaths


def print_status(run: Path, *, as_json: bool) -> None:
    """Print how many trials and jobs of a run are done, from its ledger.

    Raises:
        RequestError: if this is not a run folder.
    """
    paths = RunPaths(run)
    if not paths.resolved.is_file():
        raise RequestError(f"{run}: not a run folder: it has no {paths.resolved.name}.")
    state = run_state(paths.ledger)
    statuses = [trial.status for trial in state.trials.values()]
    counts = {status: statuses.count(status) for status in ("started", "done", "failed")}
    if as_json:
        waiting = [{name: event[name] for name in ("key", "kind", "reason")} for event in state.jobs_waiting.values()]
        jobs = {"jobs_done": len(state.jobs_done), "jobs_failed": len(state.jobs_failed), "jobs_waiting": waiting}
        print_json({"run": str(run), "trials": counts, **jobs})
        return
    stdout.print(f"{run}: {counts['done']} trials done, {counts['failed']} failed, {counts['started']} at work")
    for event in state.jobs_waiting.values():
        stdout.print(f"  {event['kind']} {event['key'][:8]} {event['reason']}", markup=False)
    for trial in state.trials.values():
        if trial.error:
            stdout.print(f"  {trial.id}: {trial.error}", markup=False)
