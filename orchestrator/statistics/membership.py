"""How sure it is that a point belongs to the frontier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000


def frontier_membership(objectives: Sequence[Floats], signs: Sequence[int]) -> Floats:
    """Share of resamples in which no other point beats a point, as an estimate of that probability. Shape: (P,).

    Training seeds are drawn anew once for all objectives and points, people or images once for all points. With one
    seed it says nothing of training. A share near 1 is not proof: nothing tells apart points that are equal.

    Args:
        objectives: values of every point, seed and unit, each (P, S, U) with units of its kind.
        signs: 1 where more is better, -1 where less is.
    """
    rng = np.random.default_rng(0)
    points, seeds, _ = objectives[0].shape
    unbeaten = np.zeros(points)
    for _ in range(RESAMPLES):
        seed_weights = _weights(rng, seeds)
        gains = np.stack(
            [
                sign * np.einsum("psu,s,u->p", values, seed_weights, _weights(rng, values.shape[2]), optimize=True)
                for sign, values in zip(signs, objectives, strict=True)
            ]
        )
        ahead = gains[:, None, :] - gains[:, :, None]  # of the second point over the first
        beaten = ((ahead > -1e-12).all(0) & (ahead > 1e-12).any(0)).any(1)
        unbeaten += ~beaten
    return unbeaten / RESAMPLES


def _weights(rng: np.random.Generator, count: int) -> Floats:
    """How often each of `count` things is drawn, over their number."""
    return rng.multinomial(count, np.full(count, 1 / count)) / count
