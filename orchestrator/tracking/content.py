"""What MLflow should hold of a sweep, as plain data: a run for the sweep, one in it for each trial, a model per target.

Everything comes from ledger and store with the times that they recorded, so that it is the same whenever it is made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

from orchestrator.planning.graph import TrialPlan
from orchestrator.reports.tables import short_names, trial_label
from orchestrator.results.pooling import SPREADS
from orchestrator.results.sweep_result import SweepResult, TrialResult
from orchestrator.search.pareto import frontier, hypervolume
from orchestrator.search.units import FRACTION, unit_of
from orchestrator.spec.model import WHERE_AND_HOW
from orchestrator.store.artifacts import ArtifactStore, Manifest
from orchestrator.store.ledger import RunState, TrialState
from orchestrator.store.paths import RunPaths

MOST_METRICS = 25
"""Metrics of a trial's run. MLflow's pages slow down with the number of distinct names; all numbers are in a table."""
MOST_CURVES = 6
"""Metrics among these that are curves of training and attacks."""
PROGRESS = "trials_done"
"""Metric of a sweep's run that counts its steps: one for each trial of the search that is done."""
LONGEST_VALUE = 5000
"""Characters of a parameter or tag; MLflow cuts or refuses longer ones."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time: float
    """Seconds since 1970."""
    step: int


@dataclass(frozen=True)
class ModelContent:
    """A trained target model: what was done to it, and where it lies. Its weights stay in the store."""

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RunContent:
    """One run as MLflow should hold it."""

    identity: str
    """What it is recognised by, whatever MLflow calls it."""
    name: str
    status: str
    """'RUNNING', 'FINISHED', 'FAILED' or 'KILLED'."""
    started: float | None
    ended: float | None
    params: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    model: ModelContent | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tables to show with the run, by file name, as columns and rows."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Key of the artifact with a picture, by the picture's name."""

    def digest(self) -> str:
        """Digest of all of it: a run that carries it is up to date."""
        return hashlib.sha256(json.dumps(vars(self), default=vars, sort_keys=True).encode()).hexdigest()[:32]


def sweep_content(result: SweepResult, state: RunState, paths: RunPaths, *, at_work: bool) -> RunContent:
    """The run of a sweep: its settings, what has come of it so far step by step, and its intervals as a table.

    `at_work` says whether a process runs it now.
    """
    resolved = result.resolved
    ended = [trial for trial in result.trials if trial.status in ("done", "failed")]
    over = len(ended) == len(result.trials)
    status = "FINISHED" if over else "RUNNING" if at_work else "KILLED"
    note = f"{resolved.spec.description}\n\nReport: {paths.report}".strip()
    return RunContent(
        identity=resolved.sweep,
        name=resolved.sweep,
        status=status,
        started=state.started_at,
        ended=None if status == "RUNNING" else max(state.updated_at or 0.0, state.started_at or 0.0),
        params=_settings(result),
        points=tuple(_progress(result, state)),
        tags={
            "mlflow.note.content": note,
            "midre.git_commit": str(state.provenance.get("git_commit") or ""),
            "midre.frontier": ", ".join(_labels(result, result.pareto())),
            **{f"midre.version.{package}": version(package) for package in ("midre", "torch", "ray")},
        },
        tables={"estimates.json": _estimates_table(result)},
    )


def trial_contents(
    result: SweepResult, state: RunState, store: ArtifactStore, *, at_work: bool
) -> Iterator[RunContent]:
    """The runs of all trials that have begun."""
    names, sweep = short_names(result), result.resolved.sweep  # which hashes the whole spec
    for trial in result.trials:
        if trial.id in state.trials:
            confirms = ", confirms" if trial.plan.trial.stage == "confirm" else ""
            name = f"{trial_label(trial, names)}, seed {trial.plan.trial.seed}{confirms}"[:250]
            identity = f"{sweep}/{trial.id}"
            yield _trial_content(
                result, trial, state.trials[trial.id], store, identity=identity, name=name, at_work=at_work
            )


def job_contents(result: SweepResult, store: ArtifactStore) -> Iterator[RunContent]:
    """A run for each distinct finished job, with its curves, where its artifact lies, and its pictures."""
    sweep = result.resolved.sweep
    roles = {key: role for trial in result.trials for role, key in trial.plan.keys.named().items()}
    for key, role in roles.items():
        manifest = store.manifest(key)
        if manifest is not None:
            yield RunContent(
                identity=f"{sweep}/job/{key}",
                name=f"{role.replace('/', ' ')} {key[:8]}",
                status="FINISHED",
                started=manifest.facts["finished_at"] - manifest.facts["seconds"],
                ended=manifest.facts["finished_at"],
                points=tuple(_curve(manifest, store)),
                tags={"midre.kind": manifest.kind, **_location(manifest, store)},
                pictures={name: key for name in manifest.files if name.endswith(".png")},
            )


def _trial_content(
    result: SweepResult,
    trial: TrialResult,
    state: TrialState,
    store: ArtifactStore,
    *,
    identity: str,
    name: str,
    at_work: bool,
) -> RunContent:
    statuses = {"done": "FINISHED", "failed": "FAILED"}
    ended = state.ended_at if trial.status in statuses else None
    estimates = _most_telling(result, trial)
    values = [Point(_name_of(label), trial.value(label), ended or 0.0, 0) for label in estimates]
    curves = list(_curves(trial.plan, store))[: max(MOST_METRICS - len(values), 0)] if trial.status == "done" else []
    intervals = {label: [estimate["low"], estimate["high"]] for label, estimate in trial.estimates().items()}
    return RunContent(
        identity=identity,
        name=name,
        status=statuses.get(trial.status, "RUNNING" if at_work else "KILLED"),
        started=state.started_at,
        ended=ended,
        params=_searched(trial.plan),
        points=(*values, *(point for curve in curves for point in curve)),
        tags={
            "midre.trial": trial.id,
            "midre.stage": trial.plan.trial.stage,
            "midre.status": trial.status,
            "midre.error": trial.error[:LONGEST_VALUE],
            "midre.intervals": json.dumps(intervals)[:LONGEST_VALUE] if intervals else "",
        },
        model=_model(trial, store) if trial.status == "done" else None,
    )


def _most_telling(result: SweepResult, trial: TrialResult) -> list[str]:
    """Names of a trial's numbers, the objectives first, as many as a run should have."""
    names = list(trial.estimates())
    objectives = [objective.metric for objective in result.resolved.spec.search.objectives]
    ordered = dict.fromkeys([name for name in objectives if name in names] + names)
    return list(ordered)[: MOST_METRICS - MOST_CURVES]


def _curves(plan: TrialPlan, store: ArtifactStore) -> Iterator[list[Point]]:
    """Curves of the target's training, then of each attack, one list for each metric."""
    jobs = {"target": plan.keys.target} | {label: keys.first.attack for label, keys in plan.keys.attacks.items()}
    curves: dict[str, list[Point]] = {}
    for label, key in jobs.items():
        manifest = store.manifest(key)
        for point in _curve(manifest, store) if manifest is not None else ():
            curves.setdefault(f"{label}/{point.name}", []).append(point._replace(name=f"{label}/{point.name}"))
    yield from list(curves.values())[:MOST_CURVES]


def _curve(manifest: Manifest, store: ArtifactStore) -> Iterator[Point]:
    """What a job reported at each step; no step is before the last one, though clocks are set back."""
    if "history.json" in manifest.files:
        time = 0.0
        for row in store.read_json(manifest.key, "history.json"):
            time = max(time, row["time"])
            for name, value in row["metrics"].items():
                yield Point(_name_of(name), value, time, row["step"])


def _model(trial: TrialResult, store: ArtifactStore) -> ModelContent | None:
    manifest = store.manifest(trial.plan.keys.target)
    if manifest is None:
        return None
    return ModelContent(f"target-{manifest.key[:12]}", _searched(trial.plan), _location(manifest, store))


def _location(manifest: Manifest, store: ArtifactStore) -> dict[str, str]:
    """Where an artifact lies, and what is in it."""
    return {
        "midre.key": manifest.key,
        "midre.location": store.location(manifest),
        "midre.sha256": manifest.digest(),
        "midre.device": str(manifest.facts.get("device", "")),
    }


def _searched(plan: TrialPlan) -> dict[str, str]:
    """The values that tell a trial from others. Kinds of defenses alone would not where defenses are searched."""
    params = {"defenses": ", ".join(plan.defenses) or "none", **plan.trial.params, "seed": plan.trial.seed}
    return {_name_of(name): _text(value) for name, value in params.items()}


def _settings(result: SweepResult) -> dict[str, str]:
    """Every setting of the spec that determines results and is not searched, by its dotted path."""
    spec = result.resolved.spec.plain()
    sections = {name: value for name, value in spec.items() if name not in WHERE_AND_HOW | {"search", "name"}}
    searched = result.resolved.spec.search.space
    return {_name_of(path): _text(value) for path, value in _leaves(sections) if path not in searched}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested data that is neither a mapping nor a list of mappings, by its dotted path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in items:
        if isinstance(child, dict) or (isinstance(child, list) and any(isinstance(item, dict) for item in child)):
            yield from _leaves(child, f"{path}{name}.")
        else:
            yield f"{path}{name}", child


def _progress(result: SweepResult, state: RunState) -> Iterator[Point]:
    """The frontier after each finished trial of the search, in the order in which they ended, and the hours of jobs."""
    objectives = result.resolved.spec.search.objectives
    searched = [trial for trial in result.finished if trial.plan.trial.stage == "search"]
    finished = sorted(searched, key=lambda trial: (state.trials[trial.id].ended_at or 0.0, trial.id))
    front: list[list[float]] = []
    for step, trial in enumerate(finished, start=1):
        ended = state.trials[trial.id].ended_at or 0.0
        # What was beaten before stays beaten: each trial is compared with the frontier so far, not with all before it.
        candidates = [*front, [trial.value(objective.metric) for objective in objectives]]
        front = [candidates[index] for index in frontier(dict(enumerate(candidates)), objectives)]
        yield Point(PROGRESS, step, ended, step)
        yield Point("frontier_size", len(front), ended, step)
        if len(objectives) == 2 and all(unit_of(objective.metric) == FRACTION for objective in objectives):
            worst = [0.0 if objective.goal == "max" else 1.0 for objective in objectives]
            yield Point("hypervolume", hypervolume(front, reference=worst, objectives=objectives), ended, step)
        for objective, column in zip(objectives, zip(*front, strict=True), strict=True):
            best = max(column) if objective.goal == "max" else min(column)
            yield Point(f"best.{_name_of(objective.metric)}", best, ended, step)
    if finished:
        hours = sum(event["facts"]["seconds"] for event in state.jobs_done.values()) / 3600
        yield Point("job_hours", hours, state.trials[finished[-1].id].ended_at or 0.0, len(finished))
    failed = sum(trial.status == "failed" for trial in result.trials)
    if failed and state.updated_at:
        yield Point("trials_failed", failed, state.updated_at, len(finished))


def _estimates_table(result: SweepResult) -> dict[str, Any]:
    """Every number of every finished trial with its interval, in the shape that MLflow shows as a table."""
    columns = ["trial", "stage", "params", "seed", "number", "value", "low", "high", "n", "method"]
    columns += ["floor", "ceiling", *SPREADS]
    rows = [
        [trial.id, trial.plan.trial.stage, _text(dict(trial.plan.trial.params)), trial.plan.trial.seed, name]
        + [estimate[part] for part in ("value", "low", "high", "n", "method")]
        + [result.scale(trial, name).floor, result.scale(trial, name).ceiling]
        + [estimate.get(spread) for spread in SPREADS]
        for trial in result.finished
        for name, estimate in trial.estimates().items()
    ]
    return {"columns": columns, "data": rows}


def _labels(result: SweepResult, trials: Sequence[str]) -> list[str]:
    names = short_names(result)
    return list(dict.fromkeys(trial_label(trial, names) for trial in result.trials if trial.id in trials))


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:LONGEST_VALUE]


def _name_of(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)[:250]
