"""The search of a sweep: which trials there are, which is next, and what the sampler hears."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import ValidationError

from orchestrator.planning.fresh_seeds import fresh_seeds
from orchestrator.planning.graph import Stage, Trial
from orchestrator.search.ranking import Chosen, chosen
from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.search.space import Params
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.messages import message_of
from orchestrator.spec.model import Spec
from orchestrator.store.ledger import TrialState
from workloads.core.config import content, digest

logger = logging.getLogger(__name__)

BASELINE = 0
"""Number of the point without any defense."""


class Search:
    """Gives out trials: the baseline first, then each point with all its seeds; no point is tried twice.

    If the spec says so, the points that came out best are confirmed once all trials of the search have ended: the
    baseline and each of them with other seeds.

    All its state comes from the ledger: `history` holds the trials that earlier processes of this sweep started.
    """

    def __init__(self, spec: Spec, history: Collection[TrialState] = ()) -> None:
        self._spec = spec
        search = spec.search
        self._sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
        self._trials: dict[str, Trial] = {}
        self._specs: dict[str, Spec] = {}
        self._waiting: list[Trial] = []
        self._points_taken = 0
        self._has_all_points = False
        self._ended_before = {state.id: state for state in history if state.status in ("done", "failed")}
        self._outcomes: dict[str, Mapping[str, float] | None] = {}
        self._unfinished_points: dict[int, list[str]] = {}
        if search.baseline:
            self._add(BASELINE, {}, undefended(spec))
        self._repeat(history)

    def next(self) -> Trial | None:
        """Take the next trial to run; None if there are no more, or none before others have ended (see `waits`)."""
        while not self._waiting:
            if not self._has_all_points:
                self._take_point()
            elif not self._confirm():
                return None
        return self._waiting.pop(0)

    @property
    def waits(self) -> bool:
        """Whether points will be confirmed that are not chosen before the trials at work have ended."""
        return self._spec.search.confirm is not None and not self._has_ended

    def give_back(self, trial: Trial) -> None:
        """Return a trial that was taken but not started, so that it comes next again."""
        self._waiting.insert(0, trial)

    def finish(self, trial: str, metrics: Mapping[str, float] | None) -> None:
        """Hear how a trial ended: its results by name, or None if it failed.

        The sampler hears of a point once all its seeds are done.
        """
        self._outcomes[trial] = metrics
        for point in [point for point, trials in self._unfinished_points.items() if trial in trials]:
            self._tell_if_finished(point)

    def foresee(self) -> None:
        """Add every trial that is certain: all points unless the sampler learns, and those that a search confirms whose
        trials have all ended, as its history says."""
        for trial, state in self._ended_before.items():
            if trial in self._trials and trial not in self._outcomes:
                self.finish(trial, state.metrics if state.status == "done" else None)
        while (self._has_all_points or not self._spec.search.sampler.learns) and self.next() is not None:
            pass

    def spec_of(self, trial: Trial) -> Spec:
        """The spec of a trial of this search, with its point put in."""
        return self._specs[trial.id]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial so far, in the order in which their points were chosen."""
        return tuple(self._trials.values())

    @property
    def size(self) -> int:
        """How many trials there will be; an upper bound while it is open which points coincide or are confirmed."""
        return self.searched + self._most_confirming(self.searched // len(self._spec.search.seeds))

    @property
    def searched(self) -> int:
        """How many of them belong to the search."""
        search = self._spec.search
        if search.sampler.limit is not None:
            return (search.sampler.limit + search.baseline) * len(search.seeds)
        everything = Search(self._spec)
        everything.foresee()
        return len(everything.trials)

    def confirming(self, params: Params | None) -> list[Trial]:
        """The trials that would confirm a point with these values, or the baseline if None, to see what they cost."""
        spec = undefended(self._spec) if params is None else applied(self._spec, params)
        point = BASELINE if params is None else 1
        trials = [self._trial(spec, point, params or {}, seed, "confirm") for seed in self._confirm_seeds]
        self._specs |= {trial.id: spec for trial in trials}
        return trials

    def _try(self, point: int, params: Params) -> None:
        """Add a point. If its values do not fit together it has no trials, and the sampler hears that it failed."""
        try:
            self._add(point, params, applied(self._spec, params))
        except ValidationError as error:
            logger.warning("point %d, %s, is no valid spec: %s", point, params, message_of(error.errors()[0], Spec))
            self._sampler.tell(point - 1, None)

    def _add(self, point: int, params: Params, spec: Spec) -> None:
        """Add the trials of a point; those that an earlier point has already are shared with it, results included."""
        baseline = point == BASELINE
        trials = [self._trial(spec, point, params, seed) for seed in self._spec.search.seeds]
        self._plan(trials, spec)
        if not baseline:
            self._unfinished_points[point] = [trial.id for trial in trials]
            self._tell_if_finished(point)

    def _trial(self, spec: Spec, point: int, params: Params, seed: int, stage: Stage = "search") -> Trial:
        return Trial(trial_id(spec, seed, stage), point, params, seed, baseline=point == BASELINE, stage=stage)

    def _plan(self, trials: Iterable[Trial], spec: Spec) -> bool:
        """Have trials run that are not there already; False if all are."""
        new = [trial for trial in trials if trial.id not in self._trials]
        self._trials |= {trial.id: trial for trial in new}
        self._specs |= {trial.id: spec for trial in new}
        self._waiting += new
        return bool(new)

    def _take_point(self) -> None:
        """Ask the sampler for its next point."""
        params = self._sampler.ask(self._points_taken)
        if params is None:
            self._has_all_points = True
            return
        self._points_taken += 1
        self._try(self._points_taken, params)

    @property
    def _has_ended(self) -> bool:
        """Whether the outcome of every trial of the search is known."""
        return all(trial.id in self._outcomes for trial in self._trials.values() if trial.stage == "search")

    @property
    def _confirm_seeds(self) -> tuple[int, ...]:
        """Training seeds of the trials that confirm."""
        confirm = self._spec.search.confirm
        return fresh_seeds(self._spec.search.seeds, confirm.seeds) if confirm else ()

    def _confirm(self) -> bool:
        """Have the points confirmed that came out best; False if none are left, or the search has not ended."""
        confirm = self._spec.search.confirm
        if confirm is None or not self._has_ended:
            return False
        values = {point: means for point, means in self._means().items() if means is not None}
        points = self._chosen(confirm.points, values)
        if points and self._spec.search.baseline:
            points = [BASELINE, *points]
        added = [self._add_confirming(point) for point in points]
        return any(added)

    def _chosen(self, which: Chosen, values: Mapping[int, Sequence[float]]) -> list[int]:
        """The defended points to confirm; the best where none is on the frontier, since "no" is an answer as well."""
        objectives = self._spec.search.objectives
        defended = {point: means for point, means in values.items() if point != BASELINE}
        if which != "frontier":
            return chosen(which, defended, objectives)
        on_frontier = [point for point in chosen(which, values, objectives) if point != BASELINE]
        return on_frontier or chosen("best", defended, objectives)

    def _most_confirming(self, points: int) -> int:
        """How many trials will confirm: those chosen, or what is most for a search with so many points."""
        confirm = self._spec.search.confirm
        planned = sum(trial.stage == "confirm" for trial in self._trials.values())
        if confirm is None or planned:
            return planned
        defended = points - self._spec.search.baseline
        match confirm.points:
            case "frontier":
                wanted = defended
            case "best":
                wanted = 1
            case int(wanted):
                pass
        return (min(wanted, defended) + self._spec.search.baseline) * confirm.seeds

    def _means(self) -> dict[int, list[float] | None]:
        """Mean of each objective at each point of the search, by its number; None for points that failed."""
        outcomes: dict[int, list[Mapping[str, float] | None]] = {}
        for trial in self._trials.values():
            if trial.stage == "search":
                outcomes.setdefault(trial.point, []).append(self._outcomes[trial.id])
        return {point: self._values(of_point) for point, of_point in outcomes.items()}

    def _add_confirming(self, point: int) -> bool:
        """Have a point confirmed with each seed; False if it is already."""
        searched = next(t for t in self._trials.values() if t.point == point and t.stage == "search")
        spec = self._specs[searched.id]
        trials = [self._trial(spec, point, dict(searched.params), seed, "confirm") for seed in self._confirm_seeds]
        return self._plan(trials, spec)

    def _tell_if_finished(self, point: int) -> None:
        """Tell the sampler of a point once all its trials have ended."""
        trials = self._unfinished_points[point]
        if all(trial in self._outcomes for trial in trials):
            self._sampler.tell(point - 1, self._values([self._outcomes[trial] for trial in trials]))
            del self._unfinished_points[point]

    def _repeat(self, history: Iterable[TrialState]) -> None:
        """Repeat the points of earlier processes, in their order.

        The ledger has no trial of a point that coincided with an earlier one, or that was killed before it began. A
        sampler that learns does not get to choose such a point again; others choose the same again.
        """
        states = list(history)
        points = {state.point: dict(state.params) for state in states if not state.baseline and state.stage == "search"}
        for point in range(1, max(points, default=0) + 1):
            params = points.get(point)
            if params is not None:
                self._sampler.repeat(point - 1, params)
            elif not self._spec.search.sampler.learns:
                params = self._sampler.ask(point - 1)
            self._points_taken = point
            if params is not None:
                self._try(point, params)
        limit = self._spec.search.sampler.limit
        self._has_all_points = limit is not None and self._points_taken >= limit
        for point in sorted({state.point for state in states if state.stage == "confirm"}):
            self._add_confirming(point)

    def _values(self, outcomes: list[Mapping[str, float] | None]) -> list[float] | None:
        """Mean of each objective over the trials of a point; None if one is missing or not finite."""
        means = []
        for objective in self._spec.search.objectives:
            values = [math.nan if metrics is None else metrics.get(objective.metric, math.nan) for metrics in outcomes]
            means.append(sum(values) / len(values) if values else math.nan)
        return means if all(map(math.isfinite, means)) else None


def trial_id(spec: Spec, seed: int, stage: Stage = "search") -> str:
    """Identity of a trial: the hash of a spec without a search, the training seed, and whether it confirms a point."""
    confirms = {"stage": stage} if stage == "confirm" else {}
    sections = ("data", "target", "defenses", "evaluation", "prior", "attacks", "metrics", "floors")
    return digest({**{name: content(getattr(spec, name)) for name in sections}, "seed": seed, **confirms})[:12]
