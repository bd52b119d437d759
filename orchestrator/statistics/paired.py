"""Differences between one point and others, on the same units, with several trainings, priors and judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its parts are imported where they are first used
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.05
_DRAWS = 10_000
_UNUSUAL = 0.99
"""Two points whose draws vary more than the others', by a ratio above this quantile, are not lent the others' calm."""


@dataclass(frozen=True)
class Part:
    """What one kind of draw adds to the error of a difference."""

    count: int
    """How many units, trainings, priors or judges there are."""
    squared: float
    """The part of the squared error that more of them make smaller; 0 where one alone says nothing of it."""


@dataclass(frozen=True)
class Difference:
    """How much larger a number is at a point than at the reference, with an interval simultaneous over all points.

    With the probability of 95 % the intervals of all points hold their true differences together.
    """

    value: float
    low: float
    high: float
    error: float
    """Standard error."""
    critical: float
    """Standard errors from the value to either end of the interval."""
    units: Part
    """People or images."""
    draws: tuple[Part, ...]
    """Trainings of the target, and whatever else was drawn several times, in the order of the axes."""

    @property
    def sign(self) -> Literal[-1, 0, 1]:
        """Which way the number changed; 0 if the interval leaves that open."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def more(self, part: Part) -> int | None:
        """About how many more of one kind, with as many of the others, would decide a difference of this size.

        None if none would, or nothing is known of it.
        """
        affordable = (self.value / self.critical) ** 2 - (self.error**2 - part.squared)
        if affordable <= 0 or part.squared <= 0:
            return None
        return max(math.ceil(part.count * part.squared / affordable) - part.count, 1)


def differences(reference: Floats, points: Floats, *, smallest_step: float = 0.0) -> list[Difference]:
    """Compare points with a reference on pairs: the same units and draws stand on both sides.

    The squared error of a difference has a part from the units, estimated from their differences, which hold all that
    varies within one draw, and a part from each kind of draw: what the means of a point's draws vary beyond that. It is
    estimated from all points together, since two or three draws of one point say little, unless those of the two
    compared vary unusually. Of what was drawn once it is not known, and the interval is for that draw alone. Degrees of
    freedom are those of Satterthwaite. The level is simultaneous: the critical value is that of the largest of all
    differences under their correlation, by simulation, carried over to Student's t.

    Args:
        reference: the first axis are trainings, which are other ones at each point; any others before the last, such as
            priors and judges, are the same for all points, so that only their interaction with a point counts.
        smallest_step: what one unit could have changed the other way, where that is known to bound a unit's difference;
            1 for shares. No error is below this over two units more than there are, since units that all agree do not
            show that the next one will.

    Shape: reference (S, ..., U), points (K, S, ..., U): the value of each draw and unit.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4, for crossed factors; Hothorn, Bretz
    and Westfall, Biometrical Journal 50 (2008), for the simultaneous level.
    """
    everything = np.concatenate([reference[None], points])
    units = everything.shape[-1]
    changes = everything[1:].reshape(len(points), -1, units).mean(1) - reference.reshape(-1, units).mean(0)  # (K, U)
    from_units = np.maximum(changes.var(1, ddof=1) / units, (smallest_step / (units + 2)) ** 2)
    axes = range(1, everything.ndim - 1)
    draws = [_draws_of(everything, axis, same_at_all_points=axis > 1) for axis in axes]
    squared = from_units + sum(draw.beyond for draw in draws)
    varying = sum(draw.squared_over_degrees for draw in draws)
    degrees = np.where(varying > 0, squared**2 / (from_units**2 / (units - 1) + varying), units - 1.0)
    level = _simultaneous_level(changes, [draw.beyond for draw in draws], squared)
    criticals, errors = scipy.special.stdtrit(degrees, 1 - level / 2), np.sqrt(squared)
    return [
        Difference(
            value=float(changes[k].mean()),
            low=float(changes[k].mean() - criticals[k] * errors[k]),
            high=float(changes[k].mean() + criticals[k] * errors[k]),
            error=float(errors[k]),
            critical=float(criticals[k]),
            units=Part(units, float(from_units[k])),
            draws=tuple(Part(draw.count, float(draw.beyond[k] + min(draw.noise, from_units[k]))) for draw in draws),
        )
        for k in range(len(points))
    ]


@dataclass(frozen=True)
class _Draws:
    """What one kind of draw adds to the squared error of each difference. Shape: (K,)."""

    count: int
    beyond: Floats
    """Beyond what units explain."""
    noise: float
    """What units explain of the variance between draws, which is part of what more draws make smaller."""
    squared_over_degrees: Floats
    """Square of the estimate over its degrees of freedom, for Satterthwaite; 0 where it adds nothing."""


def _draws_of(everything: Floats, axis: int, *, same_at_all_points: bool) -> _Draws:
    points, count = len(everything), everything.shape[axis]
    if count == 1:
        return _Draws(1, np.zeros(points - 1), 0.0, np.zeros(points - 1))
    others = tuple(other for other in range(1, everything.ndim - 1) if other != axis)
    values, degrees = everything.mean(others), count - 1.0
    if same_at_all_points:  # what a judge thinks of all points alike is no part of a difference
        values = (values - values.mean(0)) * math.sqrt(points / (points - 1))
        degrees *= (points - 1) / points
    between, within = _variances(values)
    pooled, pooled_degrees = _pooled(between, degrees)
    beyond = np.maximum(2 * (pooled - within) / count, 0.0)
    estimate = np.where(beyond > 0, 2 * pooled / count, 0.0)
    return _Draws(count, beyond, 2 * within / count, estimate**2 / pooled_degrees)


def _variances(values: Floats) -> tuple[Floats, float]:
    """Variance between the draws of each point's mean, and how much of it units alone explain. Shape: (K, D, U)."""
    _, draws, units = values.shape
    means = values.mean(2)
    residuals = values - means[:, :, None] - values.mean(1)[:, None] + means.mean(1)[:, None, None]
    within = float((residuals**2).sum((1, 2)).mean() / ((draws - 1) * (units - 1)) / units)
    return means.var(1, ddof=1), within


def _pooled(between: Floats, degrees: float) -> tuple[Floats, Floats]:
    """Variance between draws for the reference with each point, from all points unless the two vary unusually."""
    count = len(between)
    alone = (between[0] + between[1:]) / 2
    unusual = np.zeros(len(alone), dtype=bool)
    if count > 2:
        others = (between.sum() - 2 * alone) / (count - 2)
        unusual = alone > others * scipy.special.fdtri(2 * degrees, (count - 2) * degrees, _UNUSUAL)
    return np.where(unusual, alone, between.mean()), np.where(unusual, 2.0 * degrees, 1.0 * count * degrees)


def _simultaneous_level(changes: Floats, beyond: Sequence[Floats], squared: Floats) -> float:
    """Level of one comparison at which all hold together at 95 %, from the correlation of the differences."""
    count, units = changes.shape
    if count == 1 or not squared.all():
        return LEVEL / float(count)
    shared = np.cov(changes) / units
    for part in beyond:
        halves = np.sqrt(part / 2)  # half of what draws add is the reference's, which all differences share
        shared = shared + np.outer(halves, halves)
    np.fill_diagonal(shared, squared)
    scales, directions = np.linalg.eigh(shared / np.sqrt(np.outer(squared, squared)))
    draws = np.random.default_rng(0).standard_normal((_DRAWS, count)) * np.sqrt(scales.clip(min=0.0))
    largest = np.quantile(np.abs(draws @ directions.T).max(1), 1 - LEVEL)
    return float(2 * scipy.special.ndtr(-largest))
