"""`midre plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from orchestrator.cli.changes import print_changes
from orchestrator.cli.confirming import confirming_lines
from orchestrator.cli.opening import nodes_at_address, open_sweep
from orchestrator.cli.output import print_json, print_line, print_notes, stdout
from orchestrator.cli.resources import has_store, lines_by_kind, sized_jobs
from orchestrator.placement.machine import devices_in_words
from orchestrator.placement.sizing import Sized
from orchestrator.planning.graph import PlannedJob
from orchestrator.planning.plan import plan
from orchestrator.planning.search import Search
from orchestrator.sweep import Sweep
from workloads.core.words import counted


def print_plan(
    spec: Path, overrides: Sequence[str] | None, *, runs: Path | None, address: str | None, as_json: bool
) -> None:
    """Print the jobs of a sweep, and which of them the store already has."""
    nodes = nodes_at_address(address)
    sweep = open_sweep(spec, overrides, runs=runs, nodes=nodes)
    plans = sweep.plans()
    jobs = {job.key: job for plan in plans for job in plan.jobs}
    learns = sweep.resolved.spec.search.sampler.learns
    changed = sweep.changed()
    done, sized = _done(sweep, jobs, changed), sized_jobs(sweep, plans, nodes)
    confirming = list(confirming_lines(sweep))
    if as_json:
        rows = [_row(job, sized[job.key], done=done[job.key]) for job in jobs.values()]
        bound = {"most_jobs": most_jobs(sweep)} if learns else {}
        confirm = {"confirming": confirming} if confirming else {}
        print_json({"sweep": sweep.id, "trials": sweep.search().size, **bound, **confirm, "jobs": rows})
    else:
        title = "certain so far" if learns else counted(len(plans), "trial{s}")
        stdout.print(_table(jobs, done, title=f"{sweep.id}: {title}"))
        if learns:
            print_line(_in_prospect(sweep, len(plans), len(jobs)))
        for line in confirming:
            print_line(line)
        print_line(devices_in_words(nodes))
        for line in lines_by_kind(jobs, sized):
            print_line(line)
        print_changes(changed)
        print_notes(sweep.resolved.notes)


def most_jobs(sweep: Sweep) -> int:
    """Jobs of a search that asks as it goes, if each further point needs as many of its own as the second."""
    search, keys = Search(sweep.resolved.spec), set[str]()
    jobs_by_point: dict[int, int] = {}
    while (trial := search.next()) is not None:
        if trial.point not in jobs_by_point and len(jobs_by_point.keys() - {0}) == 2:
            *_, first, second = jobs_by_point.values()
            return second + (second - first) * ((sweep.resolved.spec.search.sampler.limit or 2) - 2)
        keys |= {job.key for job in plan(sweep.resolved, trial, search.spec_of(trial), with_code=False).jobs}
        jobs_by_point[trial.point] = len(keys)
    return len(keys)


def _in_prospect(sweep: Sweep, trials: int, jobs: int) -> str:
    """How many points a search that asks as it goes asks for, and what that comes to."""
    spec = sweep.resolved.spec
    points = counted(spec.search.sampler.limit or 0, "point{s}")
    seeds = counted(len(spec.search.seeds), "seed{s}")
    return (
        f"{spec.search.sampler.kind} asks for {points} one after another, each with {seeds}: "
        f"{trials} to {sweep.search().searched} trials, {jobs} to {most_jobs(sweep)} jobs."
    )


def _done(sweep: Sweep, keys: Mapping[str, object], changed: Mapping[str, frozenset[str]]) -> dict[str, bool]:
    """Whether each job is in the store, made by the code of today, by key."""
    outdated = frozenset[str]().union(*changed.values())
    is_there = has_store(sweep)
    return {key: is_there and key not in outdated and sweep.store.manifest(key) is not None for key in keys}


def _row(job: PlannedJob, sized: Sized, *, done: bool) -> dict[str, object]:
    return {
        "key": job.key,
        "kind": job.kind,
        "inputs": list(job.inputs.values()),
        "done": done,
        "resources": {**vars(sized.request), "why": sized.reason},
    }


def _table(jobs: Mapping[str, PlannedJob], done: Mapping[str, bool], *, title: str) -> Table:
    """One row per kind of job."""
    table = Table("kind", "jobs", "done", title=title)
    for kind in dict.fromkeys(job.kind for job in jobs.values()):
        of_kind = [job for job in jobs.values() if job.kind == kind]
        table.add_row(kind, str(len(of_kind)), str(sum(done[job.key] for job in of_kind)))
    return table
