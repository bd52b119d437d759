"""The search of a sweep: which trials there are, which is next, and what the sampler hears."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from orchestrator.planning.graph import Trial
from orchestrator.search.base import Sampler
from orchestrator.search.grid import Grid
from orchestrator.search.random import Random
from orchestrator.spec.apply import applied, undefended
from orchestrator.spec.messages import message_of
from orchestrator.spec.model import Spec
from orchestrator.spec.search_space import GridSampler, Params, RandomSampler, TpeSampler
from orchestrator.store.ledger import TrialState
from workloads.core.config import content, digest

logger = logging.getLogger(__name__)


class Search:
    """Gives out trials: the baseline first, then each point with all its seeds; no point is asked twice.

    All state comes from the ledger: what `history` holds is what an earlier life of this sweep had started.
    """

    def __init__(self, spec: Spec, history: Iterable[TrialState] = ()) -> None:
        self._spec = spec
        self._sampler = build_sampler(spec)
        self._trials: dict[str, Trial] = {}
        self._waiting: list[Trial] = []
        self._asked = 0
        self._outcomes: dict[str, Mapping[str, float] | None] = {}
        self._untold: dict[int, list[str]] = {}
        if spec.search.baseline:
            self._add(0, {}, baseline=True)
        self._remember(history)

    def next(self) -> Trial | None:
        """The next trial to run; None where there is none."""
        while not self._waiting:
            params = self._sampler.ask(self._asked)
            if params is None:
                return None
            self._asked += 1
            self._try(self._asked, params)
        return self._waiting.pop(0)

    def give_back(self, trial: Trial) -> None:
        """A trial that `next` gave but that was not begun: it comes next again."""
        self._waiting.insert(0, trial)

    def finish(self, trial: str, metrics: Mapping[str, float] | None) -> None:
        """Hear of a trial that is done, or failed where `metrics` is None; the sampler hears of whole points only."""
        self._outcomes[trial] = metrics
        for point in [own for own, trials in self._untold.items() if trial in trials]:
            self._tell_if_whole(point)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial asked so far, in the order of asking."""
        return tuple(self._trials.values())

    @property
    def size(self) -> int:
        """How many trials there will be, as far as it can be known; points that coincide are counted once."""
        search = self._spec.search
        match search.sampler:
            case GridSampler():
                everything = Search(self._spec)
                while everything.next() is not None:
                    pass
                return len(everything.trials)
            case RandomSampler(points=points) | TpeSampler(points=points):
                return (points + search.baseline) * len(search.seeds)

    def _try(self, point: int, params: Params) -> None:
        """Add a point, unless its values do not go together: it yields nothing, and the sampler hears so."""
        try:
            self._add(point, params, baseline=False)
        except ValidationError as error:
            logger.warning("point %d, %s, is no valid spec: %s", point, params, message_of(error.errors()[0], Spec))
            self._sampler.tell(point - 1, None)

    def _add(self, point: int, params: Params, *, baseline: bool) -> None:
        """Trials of a point that coincides with an earlier one are that one's, and so are their numbers."""
        spec = undefended(self._spec) if baseline else applied(self._spec, params)
        trials = [Trial(trial_id(spec, seed), point, params, seed, baseline) for seed in self._spec.search.seeds]
        for trial in trials:
            if trial.id not in self._trials:
                self._trials[trial.id] = trial
                self._waiting.append(trial)
        if point > 0:
            self._untold[point] = [trial.id for trial in trials]
            self._tell_if_whole(point)

    def _tell_if_whole(self, point: int) -> None:
        trials = self._untold[point]
        if all(trial in self._outcomes for trial in trials):
            self._sampler.tell(point - 1, self._values([self._outcomes[trial] for trial in trials]))
            del self._untold[point]

    def _remember(self, history: Iterable[TrialState]) -> None:
        """Repeat the points of an earlier life, in the order they were asked.

        The ledger has no trial of a point that coincided with an earlier one, or was killed before it began. Samplers
        that learn do not get to choose such a point again; others give it again.
        """
        points = {state.point: dict(state.params) for state in history if not state.baseline}
        for point in range(1, max(points, default=0) + 1):
            params = points.get(point)
            if params is not None:
                self._sampler.repeat(point - 1, params)
            elif not self._sampler.learns:
                params = self._sampler.ask(point - 1)
            self._asked = point
            if params is not None:
                self._try(point, params)

    def _values(self, outcomes: list[Mapping[str, float] | None]) -> list[float] | None:
        values = []
        for objective in self._spec.search.objectives:
            own = [math.nan if metrics is None else metrics.get(objective.metric, math.nan) for metrics in outcomes]
            values.append(sum(own) / len(own) if own else math.nan)
        return values if all(map(math.isfinite, values)) else None


def trial_id(spec: Spec, seed: int) -> str:
    """Identity of a trial: the hash of a spec without a search, and the training seed."""
    determining = {name: content(getattr(spec, name)) for name in ("data", "target", "defenses", "evaluation", "prior")}
    rest = {name: content(getattr(spec, name)) for name in ("attacks", "metrics")}
    return digest({**determining, **rest, "seed": seed})[:12]


def build_sampler(spec: Spec) -> Sampler:
    search = spec.search
    match search.sampler:
        case GridSampler():
            return Grid(search.space)
        case RandomSampler(points=points, seed=seed):
            return Random(search.space, points=points, seed=seed)
        case TpeSampler() as config:
            from orchestrator.search.tpe import Tpe  # Optuna is heavy, and only this sampler needs it

            return Tpe(search.space, config, search.objectives)
