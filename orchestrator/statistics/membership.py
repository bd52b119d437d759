"""How sure it is that a point belongs to the frontier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000


def frontier_membership(objectives: Sequence[Floats], signs: Sequence[int]) -> Floats:
    """Share of resamples in which no other point beats a point, as an estimate of that probability. Shape: (P,).

    Trainings, priors and judges are drawn anew once for all objectives and points, people or images once for all
    points. It says nothing of what there is one of. A share near 1 is not proof: nothing tells apart points that are
    equal.

    Args:
        objectives: values of every point, draw and unit, each (P, S, ..., U) with as many kinds of draws, of which an
            objective may have one alone, and units of its kind.
        signs: 1 where more is better, -1 where less is.
    """
    rng = np.random.default_rng(0)
    points, *_ = objectives[0].shape
    counts = np.max([values.shape[1:-1] for values in objectives], axis=0)
    unbeaten = np.zeros(points)
    signed = list(zip(signs, objectives, strict=True))
    for _ in range(RESAMPLES):
        weights = [_weights(rng, count) for count in counts]
        gains: Floats = np.stack(
            [sign * _weighted(values, [*weights, _weights(rng, values.shape[-1])]) for sign, values in signed]
        )
        ahead = gains[:, None, :] - gains[:, :, None]  # of the second point over the first
        beaten = np.any((ahead > -1e-12).all(0) & (ahead > 1e-12).any(0), axis=1)
        unbeaten += ~beaten
    return unbeaten / RESAMPLES


def _weighted(values: Floats, weights: Sequence[Floats]) -> Floats:
    """Weighted means over all axes but the first; one of which there is one has its value. Shape: (P, ...) to (P,)."""
    for axis_weights in reversed(weights):
        values = values @ axis_weights if values.shape[-1] > 1 else values[..., 0]
    return values


def _weights(rng: np.random.Generator, count: int) -> Floats:
    """How often each of `count` things is drawn, over their number."""
    return rng.multinomial(count, np.full(count, 1 / count)) / count
