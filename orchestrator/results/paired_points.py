"""Points of a sweep by people or images and seeds: against no defense on pairs, and by themselves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.results.pooling import Ends, UnitValues, unit_values, within_bounds
from orchestrator.results.sweep_result import PointResult, TrialResult
from orchestrator.search.space import Objective
from orchestrator.search.units import FRACTION, unit_of
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
    values = {point.point: point_values(point, name) for point in points}
    baseline = next((values[point.point] for point in points if point.baseline), None)
    if baseline is None or len(baseline.units) < 2:
        return {}
    defended = {
        point.point: paired
        for point in points
        if not point.baseline and (paired := values[point.point]) is not None and paired.same_draws(baseline)
    }
    if not defended:
        return {}
    step = 1.0 if unit_of(name) == FRACTION else 0.0
    others = np.stack([paired.values for paired in defended.values()])
    return dict(zip(defended, differences(baseline.values, others, smallest_step=step), strict=True))


def above_floor(point: PointResult, name: str, floor: str) -> Difference | None:
    """How much larger a number of an attack is than the same number of one of its floors, on the same people.

    None where they have no values of the same people with the same draws.

    Args:
        name: an attack, a dot and a metric.
        floor: such as `null` or `nearest_public`.
    """
    of_attack = point_values(point, name)
    of_floor = _stacked(point, lambda trial: _floor_units(trial, name, floor))
    if of_attack is None or of_floor is None or len(of_attack.units) < 2 or not of_attack.same_draws(of_floor):
        return None
    step = 1.0 if unit_of(name) == FRACTION else 0.0
    return differences(of_floor.values, of_attack.values[None], smallest_step=step)[0]


def membership(points: Sequence[PointResult], objectives: Sequence[Objective]) -> dict[int, float]:
    """The probability of each point to be on the frontier; none unless all share people, images and seeds."""
    columns = [[point_values(point, objective.metric) for point in points] for objective in objectives]
    paired = [[values for values in column if values is not None] for column in columns]
    if not points or any(
        len(column) < len(points) or not all(values.same_draws(column[0]) for values in column) for column in paired
    ):
        return {}
    numbers = [np.stack([values.values for values in column]) for column in paired]
    signs = [1 if objective.goal == "max" else -1 for objective in objectives]
    shares = frontier_membership(numbers, signs)
    return {point.point: float(share) for point, share in zip(points, shares, strict=True)}


def intervals_of_mean(point: PointResult, name: str) -> tuple[Ends | None, Ends] | None:
    """The intervals of a point's mean: over training seeds alone, and over all that was drawn, people included.

    The first is None where all seeds gave the same number, which a spread cannot be told from. The second holds the
    mean interval of the trials, since t with few seeds, or with values at 0 or 1, can be narrower than people or images
    alone allow.

    None for a single seed, and for a number that has no values of the same people or images with every seed.
    """
    values = point_values(point, name)
    if values is None or len(values.seeds) < 2 or len(values.units) < 2:
        return None
    seeds = np.array([trial.value(name) for trial in point.trials])
    low, high = total_interval(values.values)
    alone_low, alone_high = mean_interval(point, name)
    alike = bool((seeds == seeds[0]).all())
    alone = None if alike else within_bounds(name, seed_interval(seeds))
    return alone, within_bounds(name, (min(low, alone_low), max(high, alone_high)))


def mean_interval(point: PointResult, name: str) -> Ends:
    """Means of the lower and of the upper ends of the trials' intervals."""
    estimates = [trial.estimates()[name] for trial in point.trials]
    low, high = (statistics.fmean(float(estimate[bound]) for estimate in estimates) for bound in ("low", "high"))
    return low, high


@dataclass(frozen=True)
class PointValues:
    """Values of single people or images with every draw, of a point."""

    seeds: tuple[int, ...]
    """Training seeds."""
    priors: tuple[int, ...]
    judges: tuple[int, ...]
    units: tuple[str, ...]
    values: NDArray[np.float64]
    """Shape: (seeds, priors, judges, units)."""

    def same_draws(self, other: PointValues) -> bool:
        """Whether the values of both can be compared one by one."""
        return all(getattr(self, kind) == getattr(other, kind) for kind in ("seeds", "priors", "judges", "units"))


def point_values(point: PointResult, name: str) -> PointValues | None:
    """The values of every draw of a point; None if the number has none of single units, or seeds differ in them."""
    return _stacked(point, lambda trial: _units(trial, name))


def _stacked(point: PointResult, units_of: Callable[[TrialResult], UnitValues | None]) -> PointValues | None:
    trials = sorted(point.trials, key=lambda trial: trial.plan.trial.seed)
    rows = [values for trial in trials if (values := units_of(trial)) is not None]
    if len(rows) < len(trials) or len({(row.units, row.priors, row.judges) for row in rows}) > 1:
        return None
    seeds = tuple(trial.plan.trial.seed for trial in trials)
    return PointValues(seeds, rows[0].priors, rows[0].judges, rows[0].units, np.stack([row.values for row in rows]))


def _units(trial: TrialResult, name: str) -> UnitValues | None:
    """The value of each image, which no prior and no judge changes, or of each person attacked with every draw."""
    label, dot, metric = name.partition(".")
    if dot:
        return unit_values(trial.attacks[label].draws, metric)
    images = trial.images.get(name, ())
    if not images:
        return None
    return UnitValues(tuple(map(str, range(len(images)))), (0,), (0,), np.array(images, dtype=np.float64)[None, None])


def _floor_units(trial: TrialResult, name: str, floor: str) -> UnitValues | None:
    """The value of each person of a floor of an attack."""
    label, _, metric = name.partition(".")
    draws = trial.attacks[label].floors.get(floor)
    return None if draws is None else unit_values(draws, metric)
