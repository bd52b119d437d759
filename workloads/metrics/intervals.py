"""Numbers with their 95 % intervals: shares of success, other fractions, positive numbers and real ones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported where they are first used
from numpy.typing import NDArray
from torch import Tensor

from workloads.core.errors import ShapeError
from workloads.metrics.correlated_trials import interval_of_share

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution

Scale = Literal["success", "fraction", "positive", "real"]
"""Which values a number is the mean of: 0 and 1, any in [0, 1], any from 0 on, or any at all."""

METHODS: dict[Scale, str] = {
    "success": "beta-binomial over identities",
    "fraction": "Wilson with t, effective number of identities",
    "positive": "t of the logarithm over identities",
    "real": "t over identities",
}
"""How the interval of each scale is computed."""
NO_SPREAD = "none: no spread to compute it from"
ONE_IDENTITY = "of the one identity: over reconstructions"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval for a population of people, of whom those there are count as a sample."""

    low: float
    high: float
    n: int
    """Number of people."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, the number of independent observations, and how the interval was computed."""

    value: float
    low: float
    high: float
    n: int
    """Independent units behind the interval: people, or images where it is for new images of the same people."""
    method: str
    people: Interval | None = None
    """The interval over people, where `low` and `high` are for new images of the same people."""

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data, for JSON; `people` only where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def wilson(successes: int, n: int) -> Estimate:
    """Estimate a proportion with Wilson's score interval, which stays in [0, 1] and is never empty.

    >>> estimate = wilson(8, 10)
    >>> round(estimate.low, 4), round(estimate.high, 4)
    (0.4902, 0.9433)

    Raises:
        ShapeError: if n is 0.
    Source: Wilson, JASA 22 (1927).
    """
    if n == 0:
        raise ShapeError("a proportion needs at least one observation, got 0.")
    low, high = _wilson(successes / n, n, Z95)
    return Estimate(successes / n, low, high, n, "wilson")


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At 0 and 1 rounding would leave the value itself out.
    return min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p)


def over_images(values: Tensor, identities: Tensor) -> Estimate:
    """Estimate a share of images from 0 or 1 for each, with both intervals: over images, and over people.

    Shape: values (N,) of 0 and 1; identities (N,) int64.
    Raises:
        ShapeError: if the two disagree on N, or N is 0.
    """
    people = over_groups(values, identities, scale="success")
    estimate = wilson(int(values.sum()), len(values))
    method = "Wilson over images; people: " + people.method
    return replace(estimate, method=method, people=Interval(people.low, people.high, people.n))


def over_groups(values: Tensor, groups: Tensor, *, scale: Scale) -> Estimate:
    """Estimate the mean of `values` of identities like these, which are the groups: for a population of people.

    Reconstructions of one identity succeed or fail together, so the identities are the independent units, not the
    reconstructions. With one identity the interval is for new reconstructions of that one.

    Shape: values (N,) float; groups (N,) int64.
    Raises:
        ShapeError: if the two disagree on N, or N is 0.
    """
    if len(values) != len(groups) or len(values) == 0:
        raise ShapeError(f"need one group for each of at least one value, got {len(values)} and {len(groups)}.")
    rows, index = values.double().cpu().numpy(), groups.unique(return_inverse=True)[1].cpu().numpy()
    count = int(index.max()) + 1
    mean, method = float(rows.mean()), METHODS[scale]
    if count == 1:
        index, method = np.arange(len(rows)), ONE_IDENTITY
    if scale == "success":
        sizes = np.bincount(index)
        successes = np.bincount(index, weights=rows).round().astype(np.int64)
        return Estimate(mean, *interval_of_share(successes, sizes), count, method)
    low, high = interval_of_mean(rows, index, scale=scale)
    return Estimate(mean, low, high, count, method if low < high else NO_SPREAD)


def interval_of_mean(values: NDArray[np.float64], groups: NDArray[np.int64], *, scale: Scale) -> tuple[float, float]:
    """The 95 % interval of a mean whose groups are independent, by Student's t with one degree less than groups.

    The standard error is that of a ratio, so groups may differ in size. Fractions have Wilson's interval with the
    number of groups that would give this error; positive numbers, which are skewed, have that of the logarithm of the
    mean. The interval has no width where all groups are equal and no fractions.

    Shape: values (N,), groups (N,), from 0 on without gaps.
    Source: Dean and Pagano, Statistics in Medicine 34 (2015), for fractions.
    """
    mean, sizes = float(values.mean()), np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=values).astype(np.float64)
    count = len(sizes)
    if scale == "fraction":
        return _interval_of_fraction(mean, _variance(mean, sums, sizes), count)
    if count == 1:
        return mean, mean
    half = scipy.special.stdtrit(count - 1, 0.975) * math.sqrt(_variance(mean, sums, sizes))
    if scale == "positive" and mean > 0:
        return mean * math.exp(-half / mean), mean * math.exp(half / mean)
    return mean - half, mean + half


def _variance(mean: float, sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Variance of the mean of all values, from what the groups deviate from it."""
    count = len(sizes)
    return float(((sums - mean * sizes) ** 2).sum() / sizes.sum() ** 2 * count / max(count - 1, 1))


def _interval_of_fraction(mean: float, variance: float, count: int) -> tuple[float, float]:
    """Wilson's interval, with t and the effective number of groups; groups without spread count as one trial each."""
    effective = mean * (1 - mean) / variance if variance > 1e-15 else count
    return _wilson(mean, effective, float(scipy.special.stdtrit(max(count - 1, 1), 0.975)))
