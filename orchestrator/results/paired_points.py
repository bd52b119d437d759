"""Points of a sweep by people or images and seeds: against no defense on pairs, and by themselves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.results.sweep_result import PointResult, TrialResult
from orchestrator.results.units import FRACTION, unit_of
from orchestrator.search.space import Objective
from orchestrator.statistics.membership import frontier_membership
from orchestrator.statistics.over_seeds import seed_interval, total_interval
from orchestrator.statistics.paired import Difference, differences


def against_baseline(points: Sequence[PointResult], name: str) -> dict[int, Difference]:
    """How a number of each point with a defense differs from no defense, by the numbers of the points.

    The intervals hold together for all of them. Points that share too little with no defense are left out: other
    people or images, other seeds, or a number that is none of single people or images, such as `fid`.

    Args:
        name: `natural_accuracy`, or an attack, a dot and a metric.
    """
    values = {point.point: _values(point, name) for point in points}
    baseline = next((values[point.point] for point in points if point.baseline), None)
    if baseline is None:
        return {}
    defended = {
        point.point: paired
        for point in points
        if not point.baseline and (paired := values[point.point]) is not None and paired.keys() == baseline.keys()
    }
    if not defended or len(next(iter(baseline))[1]) < 2:
        return {}
    reference, others = _array(baseline), np.stack([_array(paired) for paired in defended.values()])
    step = 1.0 if unit_of(name) == FRACTION else 0.0
    return dict(zip(defended, differences(reference, others, smallest_step=step), strict=True))


def membership(points: Sequence[PointResult], objectives: Sequence[Objective]) -> dict[int, float]:
    """The probability of each point to be on the frontier; none unless all share people, images and seeds."""
    columns = [[_values(point, objective.metric) for point in points] for objective in objectives]
    paired = [[values for values in column if values] for column in columns]
    if not points or any(
        len(column) < len(points) or len({tuple(values) for values in column}) > 1 for column in paired
    ):
        return {}
    numbers = [np.stack([_array(values) for values in column]) for column in paired]
    signs = [1 if objective.goal == "max" else -1 for objective in objectives]
    shares = frontier_membership(numbers, signs)
    return {point.point: float(share) for point, share in zip(points, shares, strict=True)}


Ends = tuple[float, float]
"""Lower and upper end of an interval."""


def intervals_of_mean(point: PointResult, name: str) -> tuple[Ends | None, Ends] | None:
    """The intervals of a point's mean: over seeds alone, and over seeds with people or images.

    The first is None where all seeds gave the same number, which a spread cannot be told from. The second holds the
    mean interval of the trials, since t with few seeds, or with values at 0 or 1, can be narrower than people or images
    alone allow.

    None for a single seed, and for a number that has no values of the same people or images with every seed.
    """
    values = _values(point, name)
    if values is None or len(values) < 2 or len({units for _, units in values}) > 1 or len(next(iter(values))[1]) < 2:
        return None
    seeds = np.array([trial.value(name) for trial in point.trials])
    low, high = total_interval(_array(values))
    alone_low, alone_high = mean_interval(point, name)
    alike = bool((seeds == seeds[0]).all())
    alone = None if alike else _possible(name, seed_interval(seeds))
    return alone, _possible(name, (min(low, alone_low), max(high, alone_high)))


def mean_interval(point: PointResult, name: str) -> Ends:
    """Means of the lower and of the upper ends of the trials' intervals."""
    estimates = [trial.estimates()[name] for trial in point.trials]
    low, high = (statistics.fmean(float(estimate[bound]) for estimate in estimates) for bound in ("low", "high"))
    return low, high


def _possible(name: str, ends: Ends) -> Ends:
    """The part of an interval that a number can lie in."""
    return (max(ends[0], 0.0), min(ends[1], 1.0)) if unit_of(name) == FRACTION else ends


_Paired = dict[tuple[int, tuple[str, ...]], tuple[float, ...]]
"""Values of units, by the seed and the names of the units."""


def _values(point: PointResult, name: str) -> _Paired | None:
    """The values of each seed of a point; None if the number has none of single units."""
    rows = {trial.plan.trial.seed: _units(trial, name) for trial in point.trials}
    if not all(rows.values()):
        return None
    return {(seed, tuple(units)): tuple(units.values()) for seed, units in sorted(rows.items())}


def _units(trial: TrialResult, name: str) -> dict[str, float]:
    """The value of each image, or the mean of each person attacked."""
    label, dot, metric = name.partition(".")
    if not dot:
        return {str(number): float(value) for number, value in enumerate(trial.images.get(name, ()))}
    return {
        str(record["identity"]): float(record["estimates"][metric]["value"])
        for record in trial.attacks[label].identities
        if metric in record["estimates"]
    }


def _array(paired: _Paired) -> NDArray[np.float64]:
    return np.array(list(paired.values()), dtype=np.float64)
