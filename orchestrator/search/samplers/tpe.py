"""Multi-objective TPE through Optuna's ask and tell; Optuna stores nothing, the ledger is its memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from orchestrator.search.samplers.base import MOST_POINTS, SAMPLERS, Sampler, SamplerConfig
from orchestrator.search.space import Choice, Distribution, Integer, LogUniform, Objective, Params, Uniform

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import TPESampler


class TpeConfig(SamplerConfig):
    """Multi-objective tree-structured Parzen estimator: learns from finished points where the trade may be better."""

    learns: ClassVar[bool] = True

    kind: Literal["tpe"] = "tpe"
    points: Annotated[int, Field(gt=0, le=MOST_POINTS)]
    """Number of points to try."""
    seed: int = 0
    """Seed of the draws."""
    startup_points: PositiveInt = 8
    """Number of first points drawn at random, before the model is used."""

    @property
    def limit(self) -> int:
        return self.points


@SAMPLERS.register(TpeConfig)
class Tpe(Sampler):
    """Chooses points by the results of finished ones. A failed point is reported as failed and guides nothing."""

    def __init__(
        self, config: TpeConfig, *, space: Mapping[str, Distribution], objectives: Sequence[Objective]
    ) -> None:
        import optuna  # heavy, and the registry imports this module for every search

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._config = space, config
        self._distributions = {path: _to_optuna(distribution) for path, distribution in space.items()}
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if objective.goal == "max" else "minimize" for objective in objectives
        ]
        self._study = optuna.create_study(directions=directions, sampler=self._sampler(0))
        self._numbers: dict[int, int] = {}

    def ask(self, index: int) -> Params | None:
        if index >= self._config.points:
            return None
        # Seeded by the index, so that a continued search does not depend on how often an earlier process drew.
        self._study.sampler = self._sampler(index)
        trial = self._study.ask(self._distributions)
        self._numbers[index] = trial.number
        return {path: _value_of(self._space[path], answer) for path, answer in trial.params.items()}

    def repeat(self, index: int, params: Params) -> None:
        self._study.enqueue_trial({path: _answer_of(self._space[path], value) for path, value in params.items()})
        self._numbers[index] = self._study.ask(self._distributions).number

    def tell(self, index: int, values: Sequence[float] | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self._study.tell(self._numbers[index], state=TrialState.FAIL)
        else:
            self._study.tell(self._numbers[index], list(values))

    def _sampler(self, index: int) -> TPESampler:
        from optuna.samplers import TPESampler

        seed = int.from_bytes(hashlib.sha256(f"{self._config.seed}/{index}".encode()).digest()[:4], "big")
        return TPESampler(
            seed=seed, n_startup_trials=self._config.startup_points, multivariate=True, constant_liar=True
        )


def _to_optuna(distribution: Distribution) -> BaseDistribution:
    """Optuna's form of a distribution. Categories are positions in the list: a mapping cannot be a category."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match distribution:
        case Choice(values=values):
            return CategoricalDistribution(list(range(len(values))))
        case Integer(low=low, high=high):
            return IntDistribution(low, high)
        case LogUniform(low=low, high=high):
            return FloatDistribution(low, high, log=True)
        case Uniform(low=low, high=high):
            return FloatDistribution(low, high)


def _value_of(distribution: Distribution, answer: Any) -> Any:
    """The value that Optuna's answer stands for."""
    return distribution.values[answer] if isinstance(distribution, Choice) else answer


def _answer_of(distribution: Distribution, value: Any) -> Any:
    """What Optuna would have answered for a value."""
    return distribution.values.index(value) if isinstance(distribution, Choice) else value
