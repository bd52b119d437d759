"""Which points of a search come first: what the best is picked by, and which points are confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from orchestrator.search.pareto import frontier
from orchestrator.search.space import Objective
from orchestrator.search.units import FRACTION, unit_of

Chosen = Literal["frontier", "best"] | int


def merit(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """What points are ranked by, larger is better: the sum of all gains if they share a unit, else the last gain first.

    >>> goals = [Objective(metric="natural_accuracy", goal="max"), Objective(metric="gmi.attack_accuracy", goal="min")]
    >>> merit([0.75, 0.25], goals) > merit([0.5, 0.125], goals)
    True
    """
    gains = [value if objective.goal == "max" else -value for value, objective in zip(values, objectives, strict=True)]
    last_first = tuple(reversed(gains))
    shares_unit = all(unit_of(objective.metric) == FRACTION for objective in objectives)
    return (sum(gains), *last_first) if shares_unit else last_first


def chosen(which: Chosen, points: Mapping[int, Sequence[float]], objectives: Sequence[Objective]) -> list[int]:
    """The points to confirm: those on the frontier, or so many with the largest merit; `points` by their numbers."""
    if which == "frontier":
        return frontier(points, objectives)
    count = 1 if which == "best" else which
    ranked = sorted(points, key=lambda point: merit(points[point], objectives), reverse=True)
    return sorted(ranked[:count])
