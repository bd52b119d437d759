"""The frontier and its hypervolume, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.search.pareto import frontier, hypervolume
from orchestrator.search.space import Objective

GOALS = [Objective(metric="natural_accuracy", goal="max"), Objective(metric="gmi.attack_accuracy", goal="min")]


def test_the_frontier_keeps_equal_points_and_drops_beaten_ones() -> None:
    points = {0: (0.9, 0.5), 1: (0.9, 0.5), 2: (0.8, 0.5), 3: (0.7, 0.1)}
    assert frontier(points, GOALS) == [0, 1, 3]


def test_hypervolume_of_two_points_is_the_union_of_two_rectangles() -> None:
    # From (0, 1): 0.9 x 0.5 and 0.6 x 0.8 overlap in 0.6 x 0.5.
    area = hypervolume([(0.9, 0.5), (0.6, 0.2)], reference=(0.0, 1.0), objectives=GOALS)
    assert area == pytest.approx(0.9 * 0.5 + 0.6 * 0.8 - 0.6 * 0.5)


def test_points_that_another_beats_add_nothing_to_the_hypervolume() -> None:
    points = [(0.6, 0.2), (0.5, 0.9), (0.4, 0.7)]
    assert hypervolume(points, reference=(0.0, 1.0), objectives=GOALS) == pytest.approx(0.6 * 0.8)
