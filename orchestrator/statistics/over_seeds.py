"""Intervals of a mean over what was drawn several times: trainings alone, and priors, judges, people with them."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported where they are first used
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def seed_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean over trainings, by Student's t; of these people and images alone. Shape: (S,)."""
    return _student(float(values.mean()), float(values.var(ddof=1)) / len(values), len(values) - 1)


def total_interval(values: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean over all that was drawn, people or images included, by Student's t.

    The squared error is the sum of what each axis varies, less what all of them contain, which is the scatter of single
    values. An axis of one adds nothing: the interval is for it alone. Of two axes, the critical value is the mean of
    theirs, weighted by what they add, after Cochran and Cox: with two draws Satterthwaite's degrees of freedom are too
    many where the two happen to agree (84 to 92 % coverage). Of more, the sum above is wide enough for Satterthwaite's.

    Shape: any number of axes, such as (trainings, priors, judges, people); at least one with two.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4, for crossed factors; Cochran,
    Biometrics 20 (1964), "Approximate significance levels of the Behrens-Fisher test", for the critical value.
    """
    values = values.squeeze()
    mean, axes = float(values.mean()), range(values.ndim)
    by_axis = [values.mean(tuple(other for other in axes if other != axis)) for axis in axes]
    parts = np.array([means.var(ddof=1) / len(means) for means in by_axis])
    freedom = np.array([len(means) - 1 for means in by_axis])
    residuals = values - mean
    for axis, means in enumerate(by_axis):
        residuals = residuals - (means - mean).reshape([-1 if other == axis else 1 for other in axes])
    left = values.size - 1 - freedom.sum()
    scatter = float((residuals**2).sum()) / left / values.size if left else 0.0
    squared = max(float(parts.sum()) - (values.ndim - 1) * scatter, float(parts.max()))
    if squared == 0:
        return mean, mean
    if values.ndim == 2:
        critical = float((_critical(freedom) * parts).sum() / parts.sum())
        return mean - critical * squared**0.5, mean + critical * squared**0.5
    return _student(mean, squared, squared**2 / float((parts**2 / freedom).sum()))


def _student(mean: float, squared: float, degrees: float) -> tuple[float, float]:
    half = float(_critical(degrees)) * squared**0.5
    return mean - half, mean + half


def _critical(degrees: Floats | float) -> Floats:
    """Standard errors from the mean to either end of its 95 % interval, by Student's t."""
    return np.asarray(scipy.special.stdtrit(degrees, 0.975))
