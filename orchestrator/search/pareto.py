"""Which points nobody beats, and how much of the plane they dominate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.spec.search_space import Objective


def dominates(one: Sequence[float], other: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """True where `one` is nowhere worse than `other` and somewhere better."""
    signs = [1 if objective.goal == "max" else -1 for objective in objectives]
    gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def frontier(points: Mapping[int, Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """Points that no other dominates; of equal ones all.

    >>> goals = [Objective(metric="a", goal="max"), Objective(metric="b", goal="min")]
    >>> frontier({0: (0.9, 0.8), 1: (0.8, 0.4), 2: (0.7, 0.6)}, goals)
    [0, 1]
    """
    return [
        name
        for name, values in points.items()
        if not any(dominates(other, values, objectives) for other in points.values())
    ]


def hypervolume(
    points: Sequence[Sequence[float]], *, reference: Sequence[float], objectives: Sequence[Objective]
) -> float:
    """Area dominated by the points above a reference no worse than which counts; two objectives only.

    Source: Zitzler and Thiele, PPSN 1998; the two-dimensional case is a sum of rectangles.
    """
    assert len(objectives) == 2
    signs = [1 if objective.goal == "max" else -1 for objective in objectives]
    gains = [
        [sign * (value - ref) for sign, value, ref in zip(signs, point, reference, strict=True)] for point in points
    ]
    area, reached = 0.0, 0.0
    for first, second in sorted((gain for gain in gains if min(gain) > 0), reverse=True):
        area += first * max(second - reached, 0.0)
        reached = max(reached, second)
    return area
