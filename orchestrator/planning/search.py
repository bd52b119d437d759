"""The search of a sweep: which trials there are, which is next, and what the sampler hears."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from orchestrator.planning.graph import Trial
from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.search.space import Params
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.messages import message_of
from orchestrator.spec.model import Spec
from orchestrator.store.ledger import TrialState
from workloads.core.config import content, digest

logger = logging.getLogger(__name__)


class Search:
    """Gives out trials: the baseline first, then each point with all its seeds; no point is tried twice.

    All its state comes from the ledger: `history` holds the trials that earlier processes of this sweep started.
    """

    def __init__(self, spec: Spec, history: Iterable[TrialState] = ()) -> None:
        self._spec = spec
        search = spec.search
        self._sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
        self._trials: dict[str, Trial] = {}
        self._specs: dict[str, Spec] = {}
        self._waiting: list[Trial] = []
        self._points_taken = 0
        self._outcomes: dict[str, Mapping[str, float] | None] = {}
        self._unfinished_points: dict[int, list[str]] = {}
        if search.baseline:
            self._add(0, {}, undefended(spec))
        self._repeat(history)

    def next(self) -> Trial | None:
        """Take the next trial to run; None if there are no more."""
        while not self._waiting:
            params = self._sampler.ask(self._points_taken)
            if params is None:
                return None
            self._points_taken += 1
            self._try(self._points_taken, params)
        return self._waiting.pop(0)

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

    def spec_of(self, trial: Trial) -> Spec:
        """The spec of a trial of this search, with its point put in."""
        return self._specs[trial.id]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial so far, in the order in which their points were chosen."""
        return tuple(self._trials.values())

    @property
    def size(self) -> int:
        """How many trials there will be; an upper bound if points can coincide that are not chosen yet."""
        search = self._spec.search
        if search.sampler.limit is not None:
            return (search.sampler.limit + search.baseline) * len(search.seeds)
        everything = Search(self._spec)
        while everything.next() is not None:
            pass
        return len(everything.trials)

    def _try(self, point: int, params: Params) -> None:
        """Add a point. If its values do not fit together it has no trials, and the sampler hears that it failed."""
        try:
            self._add(point, params, applied(self._spec, params))
        except ValidationError as error:
            logger.warning("point %d, %s, is no valid spec: %s", point, params, message_of(error.errors()[0], Spec))
            self._sampler.tell(point - 1, None)

    def _add(self, point: int, params: Params, spec: Spec) -> None:
        """Add the trials of a point; those that an earlier point has already are shared with it, results included."""
        baseline = point == 0
        trials = [Trial(trial_id(spec, seed), point, params, seed, baseline) for seed in self._spec.search.seeds]
        for trial in trials:
            if trial.id not in self._trials:
                self._trials[trial.id] = trial
                self._specs[trial.id] = spec
                self._waiting.append(trial)
        if not baseline:
            self._unfinished_points[point] = [trial.id for trial in trials]
            self._tell_if_finished(point)

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
        points = {state.point: dict(state.params) for state in history if not state.baseline}
        for point in range(1, max(points, default=0) + 1):
            params = points.get(point)
            if params is not None:
                self._sampler.repeat(point - 1, params)
            elif not self._spec.search.sampler.learns:
                params = self._sampler.ask(point - 1)
            self._points_taken = point
            if params is not None:
                self._try(point, params)

    def _values(self, outcomes: list[Mapping[str, float] | None]) -> list[float] | None:
        """Mean of each objective over the trials of a point; None if one is missing or not finite."""
        means = []
        for objective in self._spec.search.objectives:
            values = [math.nan if metrics is None else metrics.get(objective.metric, math.nan) for metrics in outcomes]
            means.append(sum(values) / len(values) if values else math.nan)
        return means if all(map(math.isfinite, means)) else None


def trial_id(spec: Spec, seed: int) -> str:
    """Identity of a trial: the hash of a spec without a search, and the training seed."""
    sections = ("data", "target", "defenses", "evaluation", "prior", "attacks", "metrics", "floors")
    return digest({**{name: content(getattr(spec, name)) for name in sections}, "seed": seed})[:12]
