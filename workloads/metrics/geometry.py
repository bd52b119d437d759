"""Convex polygons in the plane: the hull of points, its area, and how much two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.core.errors import ShapeError

Point = tuple[float, float]
Polygon = list[Point]
"""Corners, counter-clockwise."""


def convex_hull(points: Sequence[Point]) -> Polygon:
    """Find the smallest convex polygon around points; one or two corners if they all lie on a point or a line.

    >>> convex_hull([(0, 0), (2, 0), (1, 1), (2, 2), (0, 2), (1, 0)])
    [(0, 0), (2, 0), (2, 2), (0, 2)]

    Source: Andrew, "Another Efficient Algorithm for Convex Hulls in Two Dimensions", 1979.
    """
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    return _chain(ordered)[:-1] + _chain(ordered[::-1])[:-1]


def _chain(ordered: Sequence[Point]) -> Polygon:
    """The lower hull of points sorted from left to right, or the upper hull of those sorted from right to left."""
    chain: Polygon = []
    for point in ordered:
        while len(chain) > 1 and _left_of(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def area(polygon: Polygon) -> float:
    """Area of a polygon; 0 for a point or a line."""
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in _edges(polygon)) / 2


def overlap(first: Polygon, second: Polygon) -> float:
    """Intersection over union of two convex polygons, in [0, 1]; 0 if one of them is a point or a line.

    Raises:
        ShapeError: if neither has an area.
    """
    areas = area(first), area(second)
    if not any(areas):
        raise ShapeError("two hulls without an area cannot be compared: all points of either lie on a line.")
    shared = area(intersection(first, second)) if all(areas) else 0.0
    return shared / (sum(areas) - shared)


def intersection(first: Polygon, second: Polygon) -> Polygon:
    """Intersect two convex polygons that have an area.

    Source: Sutherland and Hodgman, "Reentrant Polygon Clipping", 1974.
    """
    for start, end in _edges(second):
        first = _cut(first, start, end)
    return first


def _cut(polygon: Polygon, start: Point, end: Point) -> Polygon:
    """The part of a polygon that lies left of the line from `start` to `end`."""
    kept: Polygon = []
    for before, corner in _edges(polygon):
        side_before, side = _left_of(start, end, before), _left_of(start, end, corner)
        if (side_before < 0) != (side < 0):
            share = side_before / (side_before - side)
            kept.append((before[0] + share * (corner[0] - before[0]), before[1] + share * (corner[1] - before[1])))
        if side >= 0:
            kept.append(corner)
    return kept


def _edges(polygon: Polygon) -> list[tuple[Point, Point]]:
    return list(zip(polygon, polygon[1:] + polygon[:1], strict=True))


def _left_of(start: Point, end: Point, point: Point) -> float:
    """Twice the signed area of the triangle: above 0 if `point` lies left of the line, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
