"""Numbers with their uncertainty: Wilson for proportions of one model, a bootstrap over identities for attacks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.core.errors import ShapeError

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, the number of independent observations, and how the interval was computed."""

    value: float
    low: float
    high: float
    n: int
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data, for JSON."""
        return asdict(self)


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
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return Estimate(p, max(centre - half, 0.0), min(centre + half, 1.0), n, "wilson")


def bootstrap_over_groups(
    values: Tensor,
    groups: Tensor,
    *,
    generator: torch.Generator,
    resamples: int = 2000,
    method: str = "bootstrap over identities",
) -> Estimate:
    """Estimate the mean of `values` with a percentile interval from resampling complete groups.

    Reconstructions of one identity succeed or fail together, so identities are resampled, not reconstructions. With one
    group there is nothing to resample, and the interval is the range of the values.

    Shape: values (N,) float; groups (N,) int64.
    Raises:
        ShapeError: if the two disagree on N, or N is 0.
    Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8 (cluster resampling).
    """
    if len(values) != len(groups) or len(values) == 0:
        raise ShapeError(f"need one group for each of at least one value, got {len(values)} and {len(groups)}.")
    _, index = groups.unique(return_inverse=True)
    count = int(index.max()) + 1
    values = values.double()
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, values)
    sizes = torch.zeros(count, dtype=torch.float64).index_add_(0, index, torch.ones_like(values))
    mean = float(values.mean())
    if count == 1:
        return Estimate(mean, float(values.min()), float(values.max()), 1, "range")
    drawn = torch.randint(count, (resamples, count), generator=generator)
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(mean, low, high, count, method)
