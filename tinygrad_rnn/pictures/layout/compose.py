"""Composition of a scene from a diagram and its positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..scene.curves import Point
from ..scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH, short_number
from ..scene.scene import Edge, EdgeKind, Label, Region, Scene
from ..scene.text import text_width
from ..scene.texts import headline_width
from .diagram import Diagram, DiagramEdge
from .nested import Borders, Places

_SHORT = 4  # characters of a label of an edge that is drawn
LEFT, TOP, BOTTOM = 30.0, 84.0, 30.0
"""Space around a diagram: at its sides, above it for the title, and below it."""


def compose(
    scene: Scene, diagram: Diagram, places: Places, left: float = LEFT, top: float = TOP, id: str = "line"
) -> None:
    """Add a diagram to a scene, with its (0, 0) at (left, top); ids of edges begin with `id`."""
    routes = [tuple((round(left + x, 2), round(top + y, 2)) for x, y in route) for route in places.routes]
    for number, (group, (west, north, east, south)) in enumerate(places.regions.items()):
        if not diagram.groups[group].label:
            continue
        borders = (left + west, top + north, left + east, top + south)
        scene.regions.append(Region.around(f"module{number}", "module", *borders))
        scene.labels.append(_group_label(diagram.groups[group].label, borders, routes))
    for name, content in diagram.boxes.items():
        x, y = places.centres[name]
        scene.boxes.append(content.at(name, left + x, top + y))
    for number, (edge, route) in enumerate(zip(diagram.edges, routes, strict=True)):
        scene.edges.append(scene_edge(f"{id}{number}", edge, route))
    scene.labels += _edge_labels(diagram.edges, routes)


def _edge_labels(edges: Sequence[DiagramEdge], routes: Sequence[Sequence[Point]]) -> list[Label]:
    """Return short labels at the starts of lines; of those that overlap, the shortest."""
    labels = [
        Label(x + 4, y + (9 if end > y else -8), edge.label, "start", size=9)
        for edge, ((x, y), *_, (_, end)) in zip(edges, routes, strict=True)
        if 0 < len(edge.label) <= _SHORT
    ]
    kept: list[Label] = []
    for label in sorted(labels, key=lambda label: (text_width(label.text, 9), label.x)):
        if all(
            abs(label.y - other.y) > 9
            or label.x + text_width(label.text, 9) + 2 < other.x
            or other.x + text_width(other.text, 9) + 2 < label.x
            for other in kept
        ):
            kept.append(label)
    return [label for label in labels if label in kept]


def scene_edge(id: str, edge: DiagramEdge, route: Sequence[Point]) -> Edge:
    """Return the scene's edge for an edge of a diagram, along cubic Bezier points."""
    kind: EdgeKind = "value" if edge.magnitude is None else "gradient"
    kind = "cut" if edge.closed else "next" if edge.back else kind
    tooltip = "" if edge.magnitude is None else f"gradient norm: {short_number(edge.magnitude)}"
    points = tuple(route)
    return Edge(id, edge.tail, edge.head, points, kind, edge.magnitude, curved=True, tooltip=edge.tooltip or tooltip)


def finish(scene: Scene, right: float, bottom: float) -> None:
    """Set the size of a scene whose parts end at (right, bottom), with its legend below them if it needs one."""
    scene.width = max(right, max(headline_width(scene), LEGEND_WIDTH) + 2 * LEFT)
    scene.height = bottom
    if scene.scale is not None or any(edge.kind in ("cut", "next") for edge in scene.edges):
        scene.legend = (scene.width - LEGEND_WIDTH - 30, bottom - 14)
        scene.height += LEGEND_HEIGHT


def _group_label(text: str, borders: Borders, routes: Iterable[Sequence[Point]]) -> Label:
    """Return the label of a group, in the corner that the fewest lines cross."""
    left, top, right, _ = borders
    width = text_width(text, 9)
    near = [route for route in routes if min(y for _, y in route) < top + 19 and max(y for _, y in route) > top + 1]
    busy = [point for route in near for point in _along(route)]
    corners = [(x, top + 10) for x in (left + 9, right - 9 - width)]
    x, y = min(corners, key=lambda c: sum(-4 < a - c[0] < width + 4 and abs(b - c[1]) < 9 for a, b in busy))
    return Label(x, y, text, "start", size=9)


def _along(route: Sequence[Point]) -> Iterator[Point]:
    """Yield points of a Bezier route, close enough to each other to find what it crosses."""
    for at in range(0, len(route) - 3, 3):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = route[at : at + 4]
        for number in range(17):
            t = number / 16
            a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3
            yield a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy
