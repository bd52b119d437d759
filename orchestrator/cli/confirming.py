"""What confirming the points of a search adds to it, in words, for `midre validate` and `midre plan`."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.planning.plan import plan
from orchestrator.planning.search import Search
from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.sweep import Sweep
from workloads.core.words import counted


def confirming_lines(sweep: Sweep) -> Iterator[str]:
    """One line on the points that are confirmed once the search has ended, and the jobs for each; none if none are."""
    search = sweep.resolved.spec.search
    if search.confirm is None:
        return
    sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
    candidates = Search(sweep.resolved.spec)
    keys: list[set[str]] = []
    for params in ([None] if search.baseline else []) + [sampler.ask(0) or {}]:
        trials = candidates.confirming(params)
        keys.append(
            {
                job.key
                for trial in trials
                for job in plan(sweep.resolved, trial, candidates.spec_of(trial), with_code=False).jobs
            }
        )
    of_point = len(keys[-1] - keys[0]) if search.baseline else len(keys[-1])
    points = {"frontier": "each point on the frontier", "best": "the best point"}.get(
        str(search.confirm.points), f"each of the {search.confirm.points} best points"
    )
    alone = f"{counted(len(keys[0]), 'job{s}')} for no defense, judges and priors, and " if search.baseline else ""
    yield (
        f"confirmed once the search has ended, with {counted(search.confirm.seeds, 'other training seed{s}')}, judges "
        f"and priors: {alone}{counted(of_point, 'job{s}')} for {points}."
    )
