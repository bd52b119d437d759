"""What a search promised of the points that it picked, beside what was measured when they were confirmed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.results.paired_points import point_values
from orchestrator.results.sweep_result import PointResult, SweepResult
from orchestrator.search.space import Objective
from orchestrator.search.units import FRACTION, unit_of
from orchestrator.statistics.optimism import shrinkage


@dataclass(frozen=True)
class Optimism:
    """One objective at one point that was confirmed.

    Its gain is how much better it is than no defense in the same stage or, in a sweep without a baseline, the number
    itself, negative where less is better.
    """

    point: int
    params: Mapping[str, Any]
    number: str
    searched: float
    """Mean gain in the search, which picked the point by it."""
    confirmed: float
    """Mean gain with fresh draws."""
    optimism: float
    """By how much the first was too good."""
    low: float | None
    """Lower end of its 95 % interval; None if the number has no values of the same people or images in both stages."""
    high: float | None


def optimism(result: SweepResult) -> list[Optimism]:
    """By how much the search flattered each objective of each point that was confirmed; none before all are."""
    return list(_optimism(result)) if result.stage == "confirm" else []


def _optimism(result: SweepResult) -> Iterator[Optimism]:
    before, after = ({point.point: point for point in result.points(stage)} for stage in ("search", "confirm"))
    for number, point in after.items():
        for objective in result.resolved.spec.search.objectives:
            if not point.baseline and number in before:
                yield _of_point(before[number], point, _baseline(before), _baseline(after), objective)


def _baseline(points: Mapping[int, PointResult]) -> PointResult | None:
    return next((point for point in points.values() if point.baseline), None)


def _of_point(
    searched: PointResult,
    confirmed: PointResult,
    before: PointResult | None,
    after: PointResult | None,
    objective: Objective,
) -> Optimism:
    if before is None or after is None:
        before = after = None
    means = _gain(searched, before, objective), _gain(confirmed, after, objective)
    first, fresh = _gains(searched, before, objective), _gains(confirmed, after, objective)
    low: float | None = None
    high: float | None = None
    if first is not None and fresh is not None and first.units == fresh.units and len(first.units) > 1:
        step = 1.0 if unit_of(objective.metric) == FRACTION else 0.0
        _, low, high = shrinkage(first.values, fresh.values, smallest_step=step)
    return Optimism(
        point=confirmed.point,
        params=confirmed.params,
        number=objective.metric,
        searched=means[0],
        confirmed=means[1],
        optimism=means[0] - means[1],
        low=low,
        high=high,
    )


def _gain(point: PointResult, baseline: PointResult | None, objective: Objective) -> float:
    sign = 1 if objective.goal == "max" else -1
    reference = baseline.mean(objective.metric) if baseline else 0.0
    return sign * (point.mean(objective.metric) - reference) + 0.0  # without the sign of a zero


def _gains(point: PointResult, baseline: PointResult | None, objective: Objective) -> _Gains | None:
    sign = 1 if objective.goal == "max" else -1
    values = point_values(point, objective.metric)
    if values is None or baseline is None:
        return None if values is None else _Gains(values.units, sign * values.values)
    reference = point_values(baseline, objective.metric)
    if reference is None or not values.same_draws(reference):
        return None
    return _Gains(values.units, sign * (values.values - reference.values))


@dataclass(frozen=True)
class _Gains:
    """The gain of each person or image with every draw."""

    units: tuple[str, ...]
    values: NDArray[np.float64]
    """Shape: (trainings, priors, judges, units)."""
