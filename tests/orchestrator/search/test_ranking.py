"""Which points are picked: those on the frontier, or those with the largest sum of gains."""

from __future__ import annotations

import pytest

from orchestrator.search.ranking import Chosen, chosen, merit
from orchestrator.search.space import Objective

ACCURACIES = (Objective(metric="natural_accuracy", goal="max"), Objective(metric="gmi.attack_accuracy", goal="min"))
POINTS = {0: (0.9, 0.8), 1: (0.8, 0.5), 2: (0.7, 0.6), 3: (0.85, 0.6)}  # sums of gains: .1, .3, .1, .25


@pytest.mark.parametrize(("which", "picked"), [("frontier", [0, 1, 3]), ("best", [1]), (2, [1, 3]), (9, [0, 1, 2, 3])])
def test_points_to_confirm(which: Chosen, picked: list[int]) -> None:
    assert chosen(which, POINTS, ACCURACIES) == picked


def test_numbers_of_several_units_are_not_added() -> None:
    mixed = (ACCURACIES[0], Objective(metric="gmi.knn_distance", goal="max"))
    assert merit((0.2, 60.0), mixed) > merit((0.9, 50.0), mixed)
