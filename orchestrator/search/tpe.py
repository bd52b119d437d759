"""Multi-objective TPE through Optuna's ask and tell; Optuna stores nothing, the ledger is its memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna

from orchestrator.search.base import Sampler
from orchestrator.spec.search_space import (
    Choice,
    Distribution,
    Integer,
    LogUniform,
    Objective,
    Params,
    TpeSampler,
    Uniform,
)


class Tpe(Sampler):
    """Learns from finished points. A failed point is told as failed and guides nothing."""

    learns = True

    def __init__(self, space: Mapping[str, Distribution], config: TpeSampler, objectives: Sequence[Objective]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._config = space, config
        self._distributions = {path: _distribution(own) for path, own in space.items()}
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if objective.goal == "max" else "minimize" for objective in objectives
        ]
        self._study = optuna.create_study(directions=directions, sampler=self._sampler(0))
        self._numbers: dict[int, int] = {}

    def ask(self, index: int) -> Params | None:
        if index >= self._config.points:
            return None
        # Seeded by the index, so that a continued search does not depend on how many draws an earlier life made.
        self._study.sampler = self._sampler(index)
        trial = self._study.ask(self._distributions)
        self._numbers[index] = trial.number
        return {path: _from_optuna(self._space[path], value) for path, value in trial.params.items()}

    def repeat(self, index: int, params: Params) -> None:
        known = {path: _to_optuna(self._space[path], value) for path, value in params.items()}
        self._study.enqueue_trial(known)
        self._numbers[index] = self._study.ask(self._distributions).number

    def tell(self, index: int, values: Sequence[float] | None) -> None:
        if values is None:
            self._study.tell(self._numbers[index], state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(self._numbers[index], list(values))

    def _sampler(self, index: int) -> optuna.samplers.TPESampler:
        seed = int.from_bytes(hashlib.sha256(f"{self._config.seed}/{index}".encode()).digest()[:4], "big")
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self._config.startup_points, multivariate=True, constant_liar=True
        )


def _distribution(own: Distribution) -> optuna.distributions.BaseDistribution:
    match own:
        case Choice(values=values):
            return optuna.distributions.CategoricalDistribution(list(range(len(values))))
        case Integer(low=first, high=last):
            return optuna.distributions.IntDistribution(first, last)
        case LogUniform(low=low, high=high):
            return optuna.distributions.FloatDistribution(low, high, log=True)
        case Uniform(low=low, high=high):
            return optuna.distributions.FloatDistribution(low, high)


def _from_optuna(own: Distribution, value: Any) -> Any:
    return own.values[value] if isinstance(own, Choice) else value  # lists and mappings cannot be Optuna categories


def _to_optuna(own: Distribution, value: Any) -> Any:
    return own.values.index(value) if isinstance(own, Choice) else value
