"""How much a number shrinks when the same units are measured with fresh draws of everything else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy  # its parts are imported where they are first used
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shrinkage(first: Floats, fresh: Floats, *, smallest_step: float = 0.0) -> tuple[float, float, float]:
    """The mean of the first draws less that of fresh ones, with its 95 % interval: value, low, high.

    Both have the same people or images, which are compared one by one; trainings, priors and judges are independent.
    The squared error has a part from the units and, of each side, one from each kind of draw, beyond what units
    explain. The degrees of freedom are Satterthwaite's. What was drawn once adds nothing: the interval is for it alone.

    Args:
        smallest_step: what one unit could have changed by, 1 for shares: no error is below this over two units more
            than there are, since units that all agree do not show that the next one will.

    Shape: (S, ..., U) each, with as many axes; the numbers of draws may differ.
    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4.
    """
    units = first.shape[-1]
    changes = first.reshape(-1, units).mean(0) - fresh.reshape(-1, units).mean(0)
    value = float(changes.mean())
    from_units = max(float(changes.var(ddof=1)) / units, (smallest_step / (units + 2)) ** 2)
    parts = [(from_units, units - 1), *_parts(first), *_parts(fresh)]
    squared = sum(part for part, _ in parts)
    if squared == 0:
        return value, value, value
    degrees = squared**2 / sum(part**2 / freedom for part, freedom in parts)
    half = float(scipy.special.stdtrit(degrees, 0.975)) * squared**0.5
    return value, value - half, value + half


def _parts(values: Floats) -> Iterator[tuple[float, int]]:
    """What each kind of draw adds to the squared error of the mean beyond what units explain, and its freedom."""
    for axis in range(values.ndim - 1):
        draws, units = values.shape[axis], values.shape[-1]
        if draws == 1:
            continue
        others = tuple(other for other in range(values.ndim - 1) if other != axis)
        by_draw = values.mean(others)
        means = by_draw.mean(1)
        residuals = by_draw - means[:, None] - by_draw.mean(0) + means.mean()
        by_chance = float((residuals**2).sum()) / ((draws - 1) * (units - 1)) / units
        yield max(float(means.var(ddof=1)) - by_chance, 0.0) / draws, draws - 1
