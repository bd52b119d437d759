"""Hulls, areas and overlaps of convex polygons by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull, Delaunay

from workloads.core.errors import ShapeError
from workloads.metrics.geometry import Polygon, area, convex_hull, intersection, overlap

SQUARE: Polygon = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]


def cloud(case: int, rows: int = 12) -> list[tuple[float, float]]:
    points = np.random.default_rng(case).normal(size=(rows, 2))
    return [(float(x), float(y)) for x, y in points]


def moved(polygon: Polygon, right: float, up: float) -> Polygon:
    return [(x + right, y + up) for x, y in polygon]


def test_a_hull_has_the_area_that_scipys_has() -> None:
    for case in range(50):
        assert area(convex_hull(cloud(case))) == pytest.approx(ConvexHull(np.array(cloud(case))).volume)


def test_a_hull_has_the_corners_that_scipys_has() -> None:
    for case in range(50):
        points = cloud(case)
        assert set(convex_hull(points)) == {points[at] for at in ConvexHull(np.array(points)).vertices}


def test_points_on_an_edge_are_no_corners() -> None:
    assert convex_hull([*SQUARE, (1.0, 0.0), (2.0, 1.0), (1.0, 1.0)]) == SQUARE


@pytest.mark.parametrize(
    ("points", "corners"),
    [
        ([(1.0, 2.0)] * 3, [(1.0, 2.0)]),
        ([(0.0, 0.0), (2.0, 2.0), (1.0, 1.0)], [(0.0, 0.0), (2.0, 2.0)]),
    ],
)
def test_a_hull_of_a_point_or_a_line_has_no_area(points: Polygon, corners: Polygon) -> None:
    assert convex_hull(points) == corners
    assert area(convex_hull(points)) == 0


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        (SQUARE, 1.0),
        (moved(SQUARE, 1.0, 0.0), 2 / 6),  # half of each, out of 4 + 4 - 2
        (moved(SQUARE, 1.0, 1.0), 1 / 7),  # a quarter of each
        ([(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)], 1 / 4),  # within
        (moved(SQUARE, 5.0, 0.0), 0.0),
        (moved(SQUARE, 2.0, 0.0), 0.0),  # they touch
        ([(0.0, 0.0), (4.0, 0.0), (0.0, 4.0)], 4 / 8),  # the triangle holds the square
    ],
)
def test_an_overlap_by_hand(polygon: Polygon, expected: float) -> None:
    assert overlap(SQUARE, polygon) == pytest.approx(expected)
    assert overlap(polygon, SQUARE) == pytest.approx(expected)


def test_an_intersection_has_the_corners_worked_out_by_hand() -> None:
    # The line x + y = 3 cuts the corner (2, 2) off the square, at (2, 1) and (1, 2).
    corners = intersection(SQUARE, [(-9.0, -9.0), (12.0, -9.0), (-9.0, 12.0)])
    assert set(corners) == {(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 2.0), (0.0, 2.0)}


def test_an_overlap_is_the_share_of_grid_points_inside_both() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-3, 4, 400), np.linspace(-3, 4, 400)), -1).reshape(-1, 2)
    for case in range(5):
        first, second = cloud(case), moved(cloud(case + 100), 0.7, 0.3)
        inside = [Delaunay(np.array(points)).find_simplex(grid) >= 0 for points in (first, second)]
        expected = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
        assert overlap(convex_hull(first), convex_hull(second)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("flat", [[(1.0, 1.0)], [(0.0, 0.0), (2.0, 2.0)]])
def test_a_hull_without_area_shares_nothing(flat: Polygon) -> None:
    assert overlap(SQUARE, flat) == overlap(flat, SQUARE) == 0.0


def test_two_hulls_without_area_are_refused() -> None:
    with pytest.raises(ShapeError, match="two hulls without an area cannot be compared"):
        overlap([(1.0, 1.0)], [(0.0, 0.0), (2.0, 2.0)])
