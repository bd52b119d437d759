"""The machine-readable shape of a sweep's results: `summary.json`, and what `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.results.confirmation import optimism
from orchestrator.results.cost import NOTHING, Cost
from orchestrator.results.pooling import SPREADS, EstimateRecord
from orchestrator.results.sweep_result import SweepResult, TrialResult


def summary(
    result: SweepResult, *, run: str, seconds: float, jobs: Mapping[str, int], cost: Cost = NOTHING
) -> dict[str, Any]:
    """The shape of a sweep's results.

    `seconds` and `jobs` are those of the last command; `cost` is that of all runs of the sweep.
    `stage` says which trials count, those of `search` or those that `confirm`; `pareto` is of these. `optimism` holds,
    of each objective at each confirmed point, its gain over no defense in the search and when confirmed.
    """
    return {
        "sweep": result.resolved.sweep,
        "run": run,
        "seconds": seconds,
        "jobs": dict(jobs),
        "cost": asdict(cost),
        "trials": [_trial_summary(result, trial) for trial in result.trials],
        "stage": result.stage,
        "pareto": list(result.pareto()),
        "optimism": [asdict(change) | {"params": dict(change.params)} for change in optimism(result)],
    }


def _trial_summary(result: SweepResult, trial: TrialResult) -> dict[str, Any]:
    attacks = {
        label: {
            **{
                name: _interval(estimate) | result.scale(trial, f"{label}.{name}").shape()
                for name, estimate in attack.estimates.items()
            },
            "queries": attack.queries,
            "seconds": attack.seconds,
        }
        for label, attack in trial.attacks.items()
    }
    shape: dict[str, Any] = {
        "id": trial.id,
        "status": trial.status,
        "seed": trial.plan.trial.seed,
        "stage": trial.plan.trial.stage,
        "params": dict(trial.plan.trial.params),
        "defenses": list(trial.plan.defenses),
        **{name: _interval(estimate) for name, estimate in trial.utility.items()},
        "attacks": attacks,
    }
    return shape | {"error": trial.error} if trial.error else shape


def _interval(estimate: EstimateRecord) -> dict[str, float]:
    """A number with its interval, and its spread over judges and priors where there are several."""
    return {part: float(estimate[part]) for part in ("value", "low", "high", *SPREADS) if part in estimate}
