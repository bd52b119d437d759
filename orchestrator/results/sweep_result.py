"""The results of a sweep as frozen records, read from ledger and store. Tables, report and MLflow are made of them."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.planning.code import changed_modules
from orchestrator.planning.graph import AttackKeys, Stage, TrialPlan
from orchestrator.results.numerics import JobNumerics
from orchestrator.results.pooling import (
    Draw,
    EstimateRecord,
    pooled_estimates,
    pooled_identities,
    spreads,
)
from orchestrator.results.scale import Scale, leak_signs, scale_of
from orchestrator.search.pareto import frontier
from orchestrator.spec.model import ResolvedSpec
from orchestrator.store.artifacts import ArtifactStore, Manifest
from orchestrator.store.ledger import RunState
from workloads.core.words import counted


@dataclass(frozen=True)
class AttackResult:
    """The numbers of one attack on one target model."""

    label: str
    draws: tuple[Draw, ...]
    """What each evaluation model says of the attack with each fit of its prior."""
    protocol: Mapping[str, Any]
    """What stands beside every number: access, steps, restarts, selection, queries and more."""
    seconds: float
    """How long the attack ran, on average over its priors."""
    floors: Mapping[str, tuple[Draw, ...]] = field(default_factory=dict)
    """What it has to beat, by name: `null` for samples of a prior, `nearest_public` for public images."""
    ceiling: tuple[Draw, ...] = ()
    """Real images of the people attacked; none where they were not judged."""

    @cached_property
    def estimates(self) -> Mapping[str, EstimateRecord]:
        """Each number by its name: the mean over the draws."""
        return pooled_estimates(self.draws)

    @cached_property
    def identities(self) -> Sequence[Mapping[str, Any]]:
        """The numbers of each identity by itself."""
        return pooled_identities(self.draws)

    def scale(self, name: str, sign: int) -> Scale:
        """Floor and ceiling of a number; `sign` is 1 where more is a greater leak, -1 where less is."""
        return scale_of(self._floor_estimates, self._ceiling_estimates, name, sign)

    @cached_property
    def _floor_estimates(self) -> Mapping[str, Mapping[str, EstimateRecord]]:
        return {name: pooled_estimates(draws) for name, draws in self.floors.items()}

    @cached_property
    def _ceiling_estimates(self) -> Mapping[str, EstimateRecord]:
        return pooled_estimates(self.ceiling) if self.ceiling else {}

    @property
    def queries(self) -> int:
        """Images shown to the target model with one fit of the prior, those for prior and surrogates included."""
        return int(self.protocol["queries"])


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended, with its numbers if it is done."""

    plan: TrialPlan
    status: str
    """`waiting`, `running`, `done` or `failed`."""
    error: str
    utility: Mapping[str, EstimateRecord]
    """Numbers of the target model on held-out images."""
    attacks: Mapping[str, AttackResult]
    """By the attacks' labels."""
    numerics: tuple[JobNumerics, ...] = ()
    """How each of its jobs computed."""
    other_code: frozenset[str] = frozenset()
    """Modules whose code is not that which made the trial's artifacts."""
    images: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """What each held-out image adds to the numbers of the target model, 0 or 1, in the order of the data."""

    @property
    def id(self) -> str:
        """Identity of the trial, as in its plan."""
        return self.plan.trial.id

    def value(self, name: str) -> float:
        """A number by its full name, such as 'natural_accuracy' or 'gmi.attack_accuracy'."""
        label, dot, metric = name.partition(".")
        return float(self.attacks[label].estimates[metric]["value"] if dot else self.utility[name]["value"])

    def estimates(self) -> dict[str, EstimateRecord]:
        """Every number of the trial by its full name."""
        judged = {
            f"{label}.{name}": estimate
            for label, attack in self.attacks.items()
            for name, estimate in attack.estimates.items()
        }
        return {**self.utility, **judged}


@dataclass(frozen=True)
class PointResult:
    """One point of the search over its training seeds."""

    point: int
    params: Mapping[str, Any]
    baseline: bool
    trials: tuple[TrialResult, ...]
    stage: Stage = "search"
    """Whether these are the trials of the search, or those that confirm the point."""

    def mean(self, name: str) -> float:
        """Mean of a number over the training seeds."""
        return statistics.fmean(trial.value(name) for trial in self.trials)

    def spread(self, name: str) -> float | None:
        """Sample standard deviation over training seeds, shown apart from every interval; None for a single seed."""
        values = [trial.value(name) for trial in self.trials]
        return statistics.stdev(values) if len(values) > 1 else None

    def spreads(self, name: str) -> dict[str, float]:
        """Standard deviations of the mean over judges and over priors, where there are several; none of utility."""
        label, dot, metric = name.partition(".")
        return spreads([draw for trial in self.trials for draw in trial.attacks[label].draws], metric) if dot else {}


@dataclass(frozen=True)
class SweepResult:
    """All results of a sweep."""

    resolved: ResolvedSpec
    trials: tuple[TrialResult, ...]
    judges: Mapping[int, Mapping[str, EstimateRecord]]
    """Numbers of each evaluation model on held-out images, by its seed: they bound what its verdicts are worth."""

    @cached_property
    def leak_signs(self) -> Mapping[str, int]:
        """For each number of an attack 1 where more is a greater leak, -1 where less is."""
        return leak_signs(self.resolved.spec)

    def scale(self, trial: TrialResult, name: str) -> Scale:
        """Floor and ceiling of a number of a trial by its full name; neither for one that is of no attack."""
        label, _, metric = name.rpartition(".")
        attack, sign = trial.attacks.get(label), self.leak_signs.get(metric)
        return Scale() if attack is None or sign is None else attack.scale(metric, sign)

    @property
    def numerics(self) -> tuple[JobNumerics, ...]:
        """How the jobs of the finished trials computed; a job that trials share is there once for each."""
        return tuple(job for trial in self.trials for job in trial.numerics)

    @property
    def finished(self) -> tuple[TrialResult, ...]:
        """The trials that are done."""
        return tuple(trial for trial in self.trials if trial.status == "done")

    @property
    def stage(self) -> Stage:
        """The stage whose numbers count: that which confirms, once all its trials have ended and one is done."""
        confirming = [trial.status for trial in self.trials if trial.plan.trial.stage == "confirm"]
        return "confirm" if "done" in confirming and set(confirming) <= {"done", "failed"} else "search"

    def points(self, stage: Stage | None = None) -> tuple[PointResult, ...]:
        """Points whose trials of a stage are all done, the baseline first; by default of the stage that counts."""
        stage = stage or self.stage
        groups: dict[int, list[TrialResult]] = {}
        for trial in self.trials:
            if trial.plan.trial.stage == stage:
                groups.setdefault(trial.plan.trial.point, []).append(trial)
        return tuple(
            PointResult(point, trials[0].plan.trial.params, trials[0].plan.trial.baseline, tuple(trials), stage)
            for point, trials in sorted(groups.items())
            if all(trial.status == "done" for trial in trials)
        )

    def pareto(self) -> tuple[str, ...]:
        """Trials of the points that no other point beats, by their means over seeds, of the stage that counts."""
        objectives = self.resolved.spec.search.objectives
        points = {point.point: point for point in self.points()}
        values = {
            number: [point.mean(objective.metric) for objective in objectives] for number, point in points.items()
        }
        return tuple(trial.id for number in frontier(values, objectives) for trial in points[number].trials)


def finished_trial(result: SweepResult, id: str) -> TrialResult:
    """The finished trial whose id begins in this way.

    Raises:
        RequestError: if there is none, or several.
    """
    trials = [trial for trial in result.finished if trial.id.startswith(id)]
    if len(trials) != 1:
        ids = ", ".join(trial.id for trial in result.finished) or "none"
        raise RequestError(f"trial {id!r}: {len(trials)} finished trials have such an id. There: {ids}.")
    return trials[0]


def collect(resolved: ResolvedSpec, plans: Sequence[TrialPlan], state: RunState, store: ArtifactStore) -> SweepResult:
    """Read the results of all `plans`.

    Raises:
        DamagedArtifact: if a finished trial's numbers cannot be read.
    """
    manifest = functools.cache(store.manifest)  # trials share jobs
    trials = tuple(_trial(plan, state, store, manifest) for plan in plans)
    keys = {judge.seed: judge for trial in trials if trial.status == "done" for judge in trial.plan.keys.judges}
    judges = {seed: store.read_json(judge.measured, "metrics.json")["estimates"] for seed, judge in keys.items()}
    return SweepResult(resolved, trials, judges)


def _trial(
    plan: TrialPlan, state: RunState, store: ArtifactStore, manifest: Callable[[str], Manifest | None]
) -> TrialResult:
    trial_state = state.trials.get(plan.trial.id)
    status = trial_state.status if trial_state else "waiting"
    if status != "done":
        return TrialResult(plan, status, trial_state.error if trial_state else "", {}, {})
    utility = store.read_json(plan.keys.natural, "metrics.json")["estimates"]
    judges = [judge.seed for judge in plan.keys.judges]
    attacks = {label: _attack_result(label, keys, judges, store) for label, keys in plan.keys.attacks.items()}
    manifests = {job.key: stored for job in plan.jobs if (stored := manifest(job.key)) is not None}
    numerics = tuple(map(JobNumerics.of, manifests.values()))
    made_by = (changed_modules(job, manifests[job.key].facts) for job in plan.jobs if job.key in manifests)
    images = store.read_json(plan.keys.natural, "rows.json")["values"]
    return TrialResult(plan, status, "", utility, attacks, numerics, frozenset[str]().union(*made_by), images)


def _attack_result(label: str, keys: AttackKeys, judges: Sequence[int], store: ArtifactStore) -> AttackResult:
    draws: list[Draw] = []
    protocols, seconds = [], []
    floors: dict[str, list[Draw]] = {}
    for draw in keys.draws:
        manifest = store.manifest(draw.attack)
        assert manifest is not None, label  # the trial is done
        seconds.append(manifest.facts["seconds"])
        draws += _draws(draw.seed, judges, draw.judged, store)
        for name, floor in draw.floors.items():
            floors.setdefault(name, []).extend(_draws(draw.seed, judges, floor.judged, store))
        protocols.append(store.read_json(draw.judged[0], "metrics.json")["protocol"])
    queries = round(statistics.fmean(protocol["queries"] for protocol in protocols))
    return AttackResult(
        label,
        tuple(draws),
        {**protocols[0], "queries": queries},
        statistics.fmean(seconds),
        {name: tuple(judged) for name, judged in floors.items()},
        tuple(_draws(0, judges, keys.ceiling.judged, store)) if keys.ceiling is not None else (),
    )


def _draws(prior: int, judges: Sequence[int], judged: Sequence[str], store: ArtifactStore) -> Iterator[Draw]:
    """What every judge says of the same images."""
    for judge, key in zip(judges, judged, strict=True):
        estimates = store.read_json(key, "metrics.json")["estimates"]
        yield Draw(prior, judge, estimates, store.read_json(key, "identities.json"))


def kept_changes(result: SweepResult) -> list[str]:
    """A sentence if some results were made by other code than this, with the files that differ; else empty."""
    modules = sorted({module for trial in result.trials for module in trial.other_code})
    if not modules:
        return []
    trials = sum(bool(trial.other_code) for trial in result.trials)
    return [
        f"Results of {counted(trials, 'trial{s}')} were made by other code than this and kept: {', '.join(modules)}."
    ]
