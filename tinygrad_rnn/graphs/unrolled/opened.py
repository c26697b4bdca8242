"""Drawing of opened cells: their operations, and the lines of states that enter and leave."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Box, Label
from ..model.blocks import Block, Link
from .canvas import Canvas
from .interior import Interior, Port, Wire


def draw_opened(canvas: Canvas) -> None:
    """Draw the interiors of all opened cells, after their boxes."""
    for block, interior in canvas.parts.interiors.items():
        _Inside(canvas, block, interior).draw()


class _Inside:
    """One opened cell; the cells of a row that reads from the end are mirrored."""

    def __init__(self, canvas: Canvas, block: Block, interior: Interior) -> None:
        self.canvas, self.interior, self.row, self.box = canvas, interior, canvas.row(block), canvas.boxes[block]
        self.side = -1 if self.row.backward else 1
        self.entered: set[Port] = set()

    def draw(self) -> None:
        """Draw boxes and lines."""
        made = self.interior
        drawn = [
            self.canvas.add(content.at(f"o{self.canvas.graph.number[op.node]}", *self._put(centre)), op.nodes)
            for op, content, centre in zip(made.ops, made.contents, made.centres, strict=True)
        ]
        for wire in made.wires:
            tail = drawn[wire.tail] if isinstance(wire.tail, int) else self.box
            head = drawn[wire.head] if isinstance(wire.head, int) else self.box
            if not isinstance(wire.head, Port) or wire.head in made.leaving:  # a last state is read by nothing
                self._wire(wire, tail, head)

    def _put(self, point: Point) -> Point:
        """Return a point of the interior in coordinates of the picture."""
        x = self.box.x - self.interior.width / 2 + point[0]
        return (x if self.side > 0 else 2 * self.box.x - x), self.box.y - self.interior.height / 2 + point[1]

    def _border(self, port: Port) -> Point:
        """Return the point at which a state crosses the border of the cell."""
        side = self.side if port.side == "out" else -self.side
        return self.box.x + side * self.box.width / 2, self.canvas.state_y(self.row, port.slot)

    def _wire(self, wire: Wire, tail: Box, head: Box) -> None:
        points = tuple(map(self._put, wire.route))
        magnitude = wire.magnitude
        if isinstance(wire.head, Port):
            magnitude = _left_with(self.canvas, self.interior.leaving[wire.head])
        if isinstance(wire.tail, Port) and wire.tail.side == "in":
            points = (*_bend(self._border(wire.tail), points[0]), *points[1:])
        elif isinstance(wire.tail, Port) and wire.tail not in self.entered:
            self.entered.add(wire.tail)
            self._enter(wire, points[0])
        if isinstance(wire.head, Port) and wire.head.side == "out":
            points = (*points[:-1], *_bend(points[-1], self._border(wire.head)))
        elif isinstance(wire.head, Port):
            (x, y), box = points[-1], self.box
            way = ((x, y), (x, box.top + 29), (box.x, box.top + 29), (box.x, box.top))
            self.canvas.edge(box, None, way, magnitude, wire.nodes, arrow=False)
        self.canvas.edge(tail, head, points, magnitude, wire.nodes, arrow=head is not self.box, curved=True)
        if wire.name:
            x, y = points[0]
            anchor: Literal["start", "end"] = "start" if self.side > 0 else "end"
            self.canvas.scene.labels.append(Label(x + 5 * self.side, y - 7, wire.name, anchor, 9.0))

    def _enter(self, wire: Wire, start: Point) -> None:
        """Draw the line through the bottom of the cell that all wires from below share."""
        box = self.box
        way = ((box.x, box.bottom), (box.x, box.bottom - 12), (start[0], box.bottom - 12), start)
        norms = [other.magnitude for other in self.interior.wires if other.tail == wire.tail]
        magnitude = max((norm for norm in norms if norm is not None), default=None)
        self.canvas.edge(box, None, way, magnitude, wire.nodes, arrow=False)


def _left_with(canvas: Canvas, links: Iterable[Link]) -> float | None:
    """Return the norm of the gradient that comes back into a cell along some links."""
    found = [canvas.norms[link] * abs(canvas.factor(link)) for link in links if link in canvas.norms]
    return math.hypot(*found) if found else None


def _bend(a: Point, b: Point) -> tuple[Point, Point, Point, Point]:
    """Return a Bezier curve from a to b that is horizontal at both ends."""
    middle = (a[0] + b[0]) / 2
    return a, (middle, a[1]), (middle, b[1]), b
