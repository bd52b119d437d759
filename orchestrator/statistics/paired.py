"""Differences between one point and others, measured on the same units with the same training seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.05
_DRAWS = 10_000
_UNUSUAL = 0.99
"""Two points whose seeds vary more than the others', by a ratio above this quantile, are not lent the others' calm."""


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
    units: int
    seeds: int
    from_units: float
    """The part of the squared error that more units make smaller."""
    from_seeds: float
    """The part that more seeds make smaller."""

    @property
    def sign(self) -> Literal[-1, 0, 1]:
        """Which way the number changed; 0 if the interval leaves that open."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def more_units(self) -> int | None:
        """About how many more units, with as many seeds, would decide a difference of this size; None if none would."""
        return _needed(self.units, self.from_units, self._affordable - (self.error**2 - self.from_units))

    @property
    def more_seeds(self) -> int | None:
        """About how many more seeds, with as many units, would decide it; None if none would."""
        return _needed(self.seeds, self.from_seeds, self._affordable - (self.error**2 - self.from_seeds))

    @property
    def _affordable(self) -> float:
        """Squared error at which the interval would end at 0."""
        return (self.value / self.critical) ** 2


def _needed(count: int, part: float, affordable: float) -> int | None:
    if affordable <= 0 or part <= 0:
        return None
    return max(math.ceil(count * part / affordable) - count, 1)


def differences(reference: Floats, points: Floats, *, smallest_step: float = 0.0) -> list[Difference]:
    """Compare points with a reference on pairs: the same units and training seeds stand on both sides.

    The squared error of a difference has a part from the units, estimated from their differences, which hold all that
    varies within one seed, and a part from training: what the means of a point's seeds vary beyond that. The second is
    estimated from the seeds of all points together, since two or three of one point say little, unless those of the
    two compared vary unusually. With one seed it is not known, and the interval is for these trained models alone.
    Degrees of freedom are those of Satterthwaite. The level is simultaneous: the critical value is that of the largest
    of all differences under their correlation, by simulation, carried over to Student's t.

    Args:
        smallest_step: what one unit could have changed the other way, where that is known to bound a unit's difference;
            1 for shares. No error is below this over two units more than there are, since units that all agree do not
            show that the next one will.

    Shape: reference (S, U), points (K, S, U): the value of each seed and unit.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4, for two crossed factors; Hothorn,
    Bretz and Westfall, Biometrical Journal 50 (2008), for the simultaneous level.
    """
    everything = np.concatenate([reference[None], points])
    _, seeds, units = everything.shape
    changes = (points - reference).mean(1)  # (K, U)
    from_units = np.maximum(changes.var(1, ddof=1) / units, (smallest_step / (units + 2)) ** 2)
    between, within, own_degrees = _seed_variances(everything)
    training, degrees_of_seeds = _pooled(between, own_degrees)
    beyond = np.maximum(2 * (training - within) / seeds, 0.0)
    squared = from_units + beyond
    degrees = np.full(len(points), units - 1.0)
    varies = beyond > 0
    seed_part = (2 * training / seeds) ** 2 / np.maximum(degrees_of_seeds, 1)
    degrees[varies] = (squared**2 / (from_units**2 / (units - 1) + seed_part))[varies]
    level = _simultaneous_level(changes, beyond, squared)
    criticals, errors = special.stdtrit(degrees, 1 - level / 2), np.sqrt(squared)
    noise = 2 * within / seeds
    return [
        Difference(
            value=float(changes[k].mean()),
            low=float(changes[k].mean() - criticals[k] * errors[k]),
            high=float(changes[k].mean() + criticals[k] * errors[k]),
            error=float(errors[k]),
            critical=float(criticals[k]),
            units=units,
            seeds=seeds,
            from_units=float(from_units[k]),
            from_seeds=float(beyond[k] + min(noise, from_units[k])),
        )
        for k in range(len(points))
    ]


def _seed_variances(everything: Floats) -> tuple[Floats, float, int]:
    """Variance between the seeds of each point's mean, how much of that units alone explain, and its degrees."""
    _, seeds, units = everything.shape
    if seeds == 1:
        return np.zeros(len(everything)), 0.0, 0
    means = everything.mean(2)
    residuals = everything - means[:, :, None] - everything.mean(1)[:, None] + means.mean(1)[:, None, None]
    within = float((residuals**2).sum((1, 2)).mean() / ((seeds - 1) * (units - 1)) / units)
    return means.var(1, ddof=1), within, seeds - 1


def _pooled(between: Floats, degrees: int) -> tuple[Floats, Floats]:
    """Variance between seeds for the reference with each point, from all points unless the two vary unusually."""
    count = len(between)
    alone = (between[0] + between[1:]) / 2
    unusual = np.zeros(len(alone), dtype=bool)
    if degrees and count > 2:
        others = (between.sum() - 2 * alone) / (count - 2)
        unusual = alone > others * special.fdtri(2 * degrees, (count - 2) * degrees, _UNUSUAL)
    return np.where(unusual, alone, between.mean()), np.where(unusual, 2.0 * degrees, 1.0 * count * degrees)


def _simultaneous_level(changes: Floats, beyond: Floats, squared: Floats) -> float:
    """Level of one comparison at which all hold together at 95 %, from the correlation of the differences."""
    count, units = changes.shape
    if count == 1 or not squared.all():
        return LEVEL / float(count)
    halves = np.sqrt(beyond / 2)  # half of what training adds is the reference's, which all differences share
    shared = np.cov(changes) / units + np.outer(halves, halves)
    np.fill_diagonal(shared, squared)
    scales, directions = np.linalg.eigh(shared / np.sqrt(np.outer(squared, squared)))
    draws = np.random.default_rng(0).standard_normal((_DRAWS, count)) * np.sqrt(scales.clip(min=0.0))
    largest = np.quantile(np.abs(draws @ directions.T).max(1), 1 - LEVEL)
    return float(2 * special.ndtr(-largest))
