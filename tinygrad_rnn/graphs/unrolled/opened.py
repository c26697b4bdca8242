"""A cell opened to its operations, inside its box: states come in on the left and go out on the right.

What a cell reads from below comes in through the bottom, what is read from it goes out through the top; both run along
a strip that nothing else uses. Parameters are named in the boxes of what reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.layout.ranks import pulled_right, ranks_of
from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Label
from ...pictures.scene.scene import Row as Line
from ...pictures.scene.text import text_width
from ..content.builder import ContentBuilder
from ..model.blocks import Block, Blocks, Link
from ..model.flow import Flow
from ..model.graph import Edge, Graph, Place, Use
from ..model.operations import Operation
from ..model.table import Row, Table
from .canvas import Canvas

_HEAD = 48.0  # for the name, and for lines that go out
_FOOT = 24.0  # for lines that come in
_SIDE = 22.0


class _Port(NamedTuple):
    """Where lines pass the border of a cell: "in" or "out" with the number of a state, "below", or "above"."""

    side: str
    slot: int = 0


@dataclass
class _Line:
    """A line inside a cell, between operations (by number) and ports."""

    tail: int | _Port
    head: int | _Port
    magnitude: float | None
    nodes: list[Node]
    name: str = ""
    route: tuple[Point, ...] = ()


@dataclass
class Interior:
    """The operations of one cell at one step, laid out; (0, 0) is the upper left corner of its box."""

    ops: list[Operation]
    contents: list[Content]
    lines: list[_Line] = field(default_factory=list)
    centres: list[Point] = field(default_factory=list)
    ports: dict[_Port, Point] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


class Opener:
    """Opens the cells of a picture.

    Args:
        graph, flow, blocks, table: what is drawn.
    """

    def __init__(self, graph: Graph, flow: Flow | None, blocks: Blocks, table: Table) -> None:
        self.graph, self.flow, self.blocks, self.table = graph, flow, blocks, table
        self.content = ContentBuilder(graph, flow)
        self.by_use: dict[Use, int] = {}  # where a state is read to its number
        self.by_spot: dict[tuple[Row, int, int], int] = {}  # the same by row, position of the reader, and input
        self.above: dict[Block, dict[Place, None]] = {}  # what other rows read
        self.leaving: dict[tuple[Block, _Port], list[Link]] = {}
        for link in blocks.links:
            self._note(link)
        self.interiors: dict[Block, Interior] = {}

    def _note(self, link: Link) -> None:
        if link.tail is None or link.place is None:
            return
        row = self.table.row_of[link.tail]
        if link.head is None or (self.table.row_of[link.head] is not row and not self.table.joins_steps(link)):
            self.above.setdefault(link.tail, {})[link.place] = None
            self.leaving.setdefault((link.tail, _Port("above")), []).append(link)
        elif link.place in link.tail.states and self.table.row_of[link.head] is row:
            slot = link.tail.states.index(link.place)
            self.leaving.setdefault((link.tail, _Port("out", slot)), []).append(link)
            for node, number in link.uses:
                self.by_use[node, number] = slot
                self.by_spot[row, link.head.nodes.index(node), number] = slot

    def interior(self, row: Row, block: Block) -> Interior:
        """Return the operations of a cell, laid out."""
        if block not in self.interiors:
            self.interiors[block] = self._lay_out(row, block)
        return self.interiors[block]

    def sizes(self, shown: Iterable[int]) -> dict[Row, tuple[float, float]]:
        """Return the width and height that the cells of each row need."""
        sizes: dict[Row, tuple[float, float]] = {}
        for row in self.table.rows:
            if row.role == "cell":
                made = [self.interior(row, row.blocks[time]) for time in shown if time in row.blocks]
                sizes[row] = max(part.width for part in made), max(part.height for part in made)
        return sizes

    def _lay_out(self, row: Row, block: Block) -> Interior:
        ops = block.ops
        made = Interior(ops, self._contents(row, block))
        made.lines = self._lines(row, block, ops)
        order = ["above", "in", "out", "below"]
        ends = {end for line in made.lines for end in (line.tail, line.head) if isinstance(end, _Port)}
        ports = sorted(ends, key=lambda port: (order.index(port.side), port.slot))
        number = {port: len(ops) + place for place, port in enumerate(ports)}

        def item(end: int | _Port) -> int:
            return end if isinstance(end, int) else number[end]

        pairs = [(item(line.tail), item(line.head)) for line in made.lines]
        ranks = pulled_right(ranks_of(len(ops) + len(ports), pairs), pairs)
        if ports and min(ranks[: len(ops)], default=1) == 0:  # what reads parameters alone must not stand in the way
            ranks = [rank + 1 for rank in ranks]
        for port, place in number.items():
            ranks[place] = 0 if port.side in ("in", "below") else max(ranks[: len(ops)]) + 1
        layout = layered(
            [*(Item(*figure.size()) for figure in made.contents), *(Item(2.0, 2.0) for _ in ports)],
            [
                Arc(*pair, stub=text_width(line.name, 9) + 8 if line.name else 0.0)
                for pair, line in zip(pairs, made.lines, strict=True)
            ],
            ranks=ranks,
            between=14.0,
            across=34.0,
            first=[number[port] for port in ports if port.side != "below"],
            last=[number[port] for port in ports if port.side == "below"],
        )

        def moved(point: Point) -> Point:
            return point[0] + _SIDE, point[1] + _HEAD

        made.centres = [moved(point) for point in layout.centres[: len(ops)]]
        made.ports = {port: moved(layout.centres[place]) for port, place in number.items()}
        for line, route in zip(made.lines, layout.routes, strict=True):
            line.route = tuple(map(moved, route))
        made.width, made.height = layout.width + 2 * _SIDE, layout.height + _HEAD + _FOOT
        return made

    def _lines(self, row: Row, block: Block, ops: list[Operation]) -> list[_Line]:
        place_of = {node: number for number, op in enumerate(ops) for node in op.nodes}
        where = {node: number for number, node in enumerate(block.nodes)}
        lines: list[_Line] = []
        for head, op in enumerate(ops):
            for edge in op.inputs:
                node, number = edge.use
                magnitude = None if self.flow is None else self.flow.edge(node, number)
                tail: int | _Port
                if edge.source in place_of and not edge.cuts:
                    tail = place_of[edge.source]
                else:
                    slot = self.by_use.get((node, number), self.by_spot.get((row, where[node], number)))
                    if slot is None and self._is_quiet(edge):
                        continue
                    tail = _Port("below") if slot is None else _Port("in", slot)
                lines.append(_Line(tail, head, magnitude, [node], self.content.output_name(edge)))
        leaving = [(_Port("out", number), node) for number, (node, _) in enumerate(block.states)]
        leaving += [(_Port("above"), node) for node, _ in self.above.get(block, {})]
        for port, node in leaving:
            made = self._maker(node, place_of)
            if made is not None:
                lines.append(_Line(made, port, None, [node]))
        return lines

    def _left_with(self, canvas: Canvas, links: list[Link]) -> float | None:
        """Return the gradient that comes back into a cell along some links."""
        found = []
        for link in links:
            magnitude = canvas.norms.get(link)
            if magnitude is not None:
                found.append(magnitude * abs(math.prod(self.graph.cuts[cut].scale for cut in link.cuts)))
        return math.hypot(*found) if found else None

    @staticmethod
    def _maker(node: Node, place_of: dict[Node, int]) -> int | None:
        """Return the operation that is drawn for a node: what only moves elements is looked through."""
        while node not in place_of and node.edges and node.edges[0] is not None:
            node = node.edges[0][0]
        return place_of.get(node)

    def _contents(self, row: Row, block: Block) -> list[Content]:
        contents = [self._content(row, block, op) for op in block.ops]
        # A first state is a constant that has no name: the same operation of another step knows what it reads.
        later = next((other for _, other in sorted(row.blocks.items()) if other is not row.first), block)
        if row.first is block and [op.name for op in later.ops] == [op.name for op in block.ops]:
            rows = [self._content(row, later, op).rows for op in later.ops]
            contents = [replace(content, rows=own) for content, own in zip(contents, rows, strict=True)]
        return contents

    def _content(self, row: Row, block: Block, op: Operation) -> Content:
        names = [row.slots[number] for number, (node, _) in enumerate(block.states) if node is op.node]
        content = self.content.operation(op, states=names)
        weights = [self.content.input_name(edge) for edge in op.inputs if self._is_weight(edge)]
        if weights and not names and not content.rows:
            content = replace(content, rows=(Line(", ".join(weights)),))
        return replace(content, least_height=14.0 * len(op.node.specs) + 8)

    def _is_weight(self, edge: Edge) -> bool:
        return edge.source is not None and (edge.source.operation is None or edge.source in self.blocks.weights)

    def _is_quiet(self, edge: Edge) -> bool:
        """Return whether a edge is not drawn: a parameter, which the box names, or a number."""
        return self._is_weight(edge) or (edge.source is None and not edge.spec.shape)

    def draw(self, canvas: Canvas) -> None:
        """Draw the insides of all cells; their boxes are drawn already."""
        for row in self.table.rows:
            for _, block in sorted(row.blocks.items()):
                if row.role == "cell" and block in canvas.boxes:
                    self._draw(canvas, row, block)

    def _draw(self, canvas: Canvas, row: Row, block: Block) -> None:
        made, box = self.interior(row, block), canvas.boxes[block]
        left, top = box.x - made.width / 2, box.y - made.height / 2
        side = -1 if row.backward else 1

        def put(point: Point) -> Point:
            x = left + point[0]
            return (x if side > 0 else 2 * box.x - x), top + point[1]

        drawn = [
            canvas.add(content.at(f"o{self.graph.number[op.node]}", *put(centre)), op.nodes)
            for op, content, centre in zip(made.ops, made.contents, made.centres, strict=True)
        ]
        entered: set[_Port] = set()
        for line in made.lines:
            magnitude = line.magnitude
            if isinstance(line.head, _Port):
                links = self.leaving.get((block, line.head), [])
                if not links:  # a last state, which nothing reads
                    continue
                magnitude = self._left_with(canvas, links)
            points = tuple(map(put, line.route))
            tail = drawn[line.tail] if isinstance(line.tail, int) else box
            head = drawn[line.head] if isinstance(line.head, int) else box
            if isinstance(line.tail, _Port) and line.tail.side == "in":
                points = (
                    *_bend((box.x - side * box.width / 2, canvas.state_y(row, line.tail.slot)), points[0]),
                    *points[1:],
                )
            elif isinstance(line.tail, _Port) and line.tail not in entered:
                entered.add(line.tail)
                floor = box.bottom
                way = ((box.x, floor), (box.x, floor - 12), (points[0][0], floor - 12), points[0])
                known = [
                    other.magnitude for other in made.lines if other.tail == line.tail and other.magnitude is not None
                ]
                canvas.edge(box, None, way, max(known, default=None), line.nodes, arrow=False)
            if isinstance(line.head, _Port) and line.head.side == "out":
                border = (box.x + side * box.width / 2, canvas.state_y(row, line.head.slot))
                points = (*points[:-1], *_bend(points[-1], border))
            elif isinstance(line.head, _Port):
                ceiling = box.top
                end = points[-1]
                way = (end, (end[0], ceiling + 29), (box.x, ceiling + 29), (box.x, ceiling))
                canvas.edge(box, None, way, magnitude, line.nodes, arrow=False)
            canvas.edge(tail, head, points, magnitude, line.nodes, arrow=head is not box, curved=True)
            if line.name:
                x, y = points[0]
                canvas.scene.labels.append(Label(x + 5 * side, y - 7, line.name, "start" if side > 0 else "end", 9.0))


def _bend(a: Point, b: Point) -> tuple[Point, Point, Point, Point]:
    """Return a Bezier curve that leaves a and reaches b level."""
    middle = (a[0] + b[0]) / 2
    return a, (middle, a[1]), (middle, b[1]), b
