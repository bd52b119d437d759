"""Intervals of a point's mean over its training seeds: of what training varies alone, and with its people or images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


def seed_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean over trainings, by Student's t; of these people and images alone. Shape: (S,)."""
    return _student(float(values.mean()), float(values.var(ddof=1)) / len(values), len(values) - 1)


def total_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean over trainings and over people or images together, by Student's t.

    The squared error is that of units plus that of seeds, less what both contain, which is the scatter of single units
    within single seeds. The degrees of freedom are Satterthwaite's.

    Shape: (S, U), at least two of each.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4, for two crossed factors.
    """
    seeds, units = values.shape
    by_unit, by_seed, mean = values.mean(0), values.mean(1), float(values.mean())
    of_units, of_seeds = by_unit.var(ddof=1) / units, by_seed.var(ddof=1) / seeds
    scatter = ((values - by_unit - by_seed[:, None] + mean) ** 2).sum() / ((seeds - 1) * (units - 1)) / (seeds * units)
    squared = max(of_units + of_seeds - scatter, of_units, of_seeds)
    if squared == 0:
        return mean, mean
    return _student(mean, squared, squared**2 / (of_units**2 / (units - 1) + of_seeds**2 / (seeds - 1)))


def _student(mean: float, squared: float, degrees: float) -> tuple[float, float]:
    half = float(special.stdtrit(degrees, 0.975)) * squared**0.5
    return mean - half, mean + half
