"""The path of an edge as cubic Bezier points, the same for every writer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .scene import Edge

Point = tuple[float, float]
_ROUND = 0.5523  # control points of a quarter circle stand here, in parts of its radius


def bezier(edge: Edge, shorten: float = 0.0, radius: float = 14.0) -> list[Point]:
    """Return the path of an edge, 1 + 3n points, its end drawn back by `shorten` points to make room for a head."""
    points = list(edge.points)
    if edge.curved:
        (x, y), (cx, cy) = points[-1], next(p for p in reversed(points[:-1]) if p != points[-1])
        length = math.hypot(x - cx, y - cy)
        end = (x - (x - cx) * shorten / length, y - (y - cy) * shorten / length)
        return [*points[:-2], (points[-2][0] + end[0] - x, points[-2][1] + end[1] - y), end]
    points[-1] = _toward(points[-1], points[-2], shorten)
    return _rounded(points, radius)


def tip_direction(edge: Edge) -> Point:
    """Return the unit vector in which an edge arrives at its end."""
    x, y = edge.points[-1]
    cx, cy = next(point for point in reversed(edge.points[:-1]) if point != edge.points[-1])
    length = math.hypot(x - cx, y - cy)
    return (x - cx) / length, (y - cy) / length


def _rounded(points: Sequence[Point], radius: float) -> list[Point]:
    path = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        start, end = _toward(corner, before, r), _toward(corner, after, r)
        path += _straight(path[-1], start)
        path += [_toward(start, corner, r * _ROUND), _toward(end, corner, r * _ROUND), end]
    return path + _straight(path[-1], points[-1])


def _straight(a: Point, b: Point) -> list[Point]:
    return [
        (a[0] + (b[0] - a[0]) / 3, a[1] + (b[1] - a[1]) / 3),
        (b[0] + (a[0] - b[0]) / 3, b[1] + (a[1] - b[1]) / 3),
        b,
    ]


def _toward(a: Point, b: Point, distance: float) -> Point:
    """Return the point `distance` from a on the way to b."""
    length = math.dist(a, b)
    return a if not length else (a[0] + (b[0] - a[0]) * distance / length, a[1] + (b[1] - a[1]) * distance / length)
