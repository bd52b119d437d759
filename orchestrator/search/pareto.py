"""Which points no other point beats, and how much of the plane they dominate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.search.space import Objective


def dominates(point: Sequence[float], rival: Sequence[float], objectives: Sequence[Objective]) -> bool:
    """Whether `point` is better than `rival` in one objective and worse in none."""
    signs = [1 if objective.goal == "max" else -1 for objective in objectives]
    gains = [sign * (a - b) for sign, a, b in zip(signs, point, rival, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def frontier(points: Mapping[int, Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """Names of the points that no other dominates; equal points are all kept.

    >>> goals = [Objective(metric="a", goal="max"), Objective(metric="b", goal="min")]
    >>> frontier({0: (0.9, 0.8), 1: (0.8, 0.4), 2: (0.7, 0.6)}, goals)
    [0, 1]
    """
    return [
        name
        for name, values in points.items()
        if not any(dominates(rival, values, objectives) for rival in points.values())
    ]


def compromise(points: Mapping[int, Sequence[float]], objectives: Sequence[Objective]) -> int | None:
    """Name of the point nearest to the best value of every objective, each scaled to its range; None without points.

    Source: Zeleny, "Compromise programming", 1973, with the Euclidean distance.

    >>> goals = [Objective(metric="a", goal="max"), Objective(metric="b", goal="min")]
    >>> compromise({0: (1.0, 1.0), 1: (0.9, 0.2), 2: (0.0, 0.0)}, goals)
    1
    """
    columns = list(zip(*points.values(), strict=True))
    best = [(max if goal.goal == "max" else min)(column) for goal, column in zip(objectives, columns, strict=False)]
    ranges = [max(column) - min(column) or 1.0 for column in columns]

    def distance(name: int) -> float:
        return math.hypot(*((v - b) / r for v, b, r in zip(points[name], best, ranges, strict=True)))

    return min(points, key=distance, default=None)


def hypervolume(
    points: Sequence[Sequence[float]], *, reference: Sequence[float], objectives: Sequence[Objective]
) -> float:
    """Area between a reference point and the points that are better than it in both of two objectives.

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
