"""`midre plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from orchestrator.cli.opening import open_sweep
from orchestrator.cli.output import print_json, print_notes, stdout
from orchestrator.planning.graph import PlannedJob
from orchestrator.sweep import Sweep


def print_plan(
    spec: Path, overrides: Sequence[str] | None, *, runs: Path | None, address: str | None, as_json: bool
) -> None:
    """Print the jobs of a sweep, and which of them the store already has."""
    sweep = open_sweep(spec, overrides, runs=runs, address=address)
    plans = sweep.plans()
    jobs = {job.key: job for plan in plans for job in plan.jobs}
    done = _done(sweep, jobs)
    if as_json:
        rows = [_row(job, done=done[job.key]) for job in jobs.values()]
        print_json({"sweep": sweep.id, "trials": sweep.search().size, "jobs": rows})
    else:
        stdout.print(_table(jobs, done, title=f"{sweep.id}: {len(plans)} trials"))
        print_notes(sweep.resolved.notes)


def _done(sweep: Sweep, keys: Mapping[str, object]) -> dict[str, bool]:
    """Whether each job is in the store, by key. A local store that is not there is not created to look into it."""
    has_store = bool(sweep.resolved.spec.storage.artifacts) or sweep.workspace.store.exists()
    return {key: has_store and sweep.store.manifest(key) is not None for key in keys}


def _row(job: PlannedJob, *, done: bool) -> dict[str, object]:
    return {
        "key": job.key,
        "kind": job.kind,
        "inputs": list(job.inputs.values()),
        "done": done,
        "resources": vars(job.request),
    }


def _table(jobs: Mapping[str, PlannedJob], done: Mapping[str, bool], *, title: str) -> Table:
    """One row per kind of job."""
    table = Table("kind", "jobs", "done", "CPUs", "GPUs", "memory GB", title=title)
    for kind in dict.fromkeys(job.kind for job in jobs.values()):
        of_kind = [job for job in jobs.values() if job.kind == kind]
        request = of_kind[0].request
        finished = sum(done[job.key] for job in of_kind)
        table.add_row(kind, *map(str, (len(of_kind), finished, request.cpus, request.gpus, request.memory_gb)))
    return table
