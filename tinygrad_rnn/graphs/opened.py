"""A cell opened to its operations, inside its box in the unrolled view: states come in on the left, go out on the right.

What a cell reads from below comes in through the bottom, what is read from it goes out through the top; both run along
a strip that nothing else uses. Parameters are named in the boxes of what reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..engine.tape import Node
from .curves import Point
from .figures import Figure, Figures
from .flow import Flow
from .groups import Group, Groups, Link
from .layered import Arc, Item, layered
from .parts import Part, Wire, parts_of
from .pen import Pen
from .read import Place, Story, Use
from .scene import Box, Label
from .table import Row, Table

_HEAD = 40.0  # for the name, and for lines that go out
_FOOT = 22.0  # for lines that come in
_SIDE = 26.0


@dataclass
class Interior:
    """The operations of one cell at one step, laid out; (0, 0) is the upper left corner of its box.

    Attributes:
        parts, figures, centres: the operations.
        inner: (tail, head, wire, route) by number of the parts.
        states: number of a state that is read to (its place on the left, [(route, head, use)]).
        inputs: (place, [(route, head, use)]) of what comes from below; None if nothing does.
        width, height: of the box.
    """

    parts: list[Part]
    figures: list[Figure]
    centres: list[Point] = field(default_factory=list)
    inner: list[tuple[int, int, Wire, tuple[Point, ...]]] = field(default_factory=list)
    ports: list[tuple[int | None, Point, list[tuple[tuple[Point, ...], int, Wire]]]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


class Opener:
    """Opens the cells of a picture."""

    def __init__(self, story: Story, flow: Flow | None, groups: Groups, table: Table) -> None:
        self.story, self.flow, self.groups, self.table = story, flow, groups, table
        self.parts = parts_of(node for node, _ in story.losses)[0]
        self.figures = Figures(story, flow)
        self.slots: dict[tuple[Row, int, int], int] = {}  # (row, position of the reader, input) to the state it reads
        self.by_use: dict[Use, int] = {}
        for link in groups.links:
            slot = self._slot(link)
            if slot is None or link.head is None:
                continue
            row = table.row_of[link.head]
            for node, number in link.uses:
                self.by_use[node, number] = slot
                self.slots[row, link.head.nodes.index(node), number] = slot
        self.interiors: dict[Group, Interior] = {}

    def _slot(self, link: Link) -> int | None:
        if link.tail is None or link.head is None or link.place not in link.tail.states:
            return None
        same = self.table.row_of[link.tail] is self.table.row_of[link.head]
        return link.tail.states.index(link.place) if same and link.tail is not link.head else None

    def interior(self, row: Row, time: int) -> Interior:
        """Return the operations of a cell at a time, laid out."""
        group = row.groups[time]
        if group not in self.interiors:
            self.interiors[group] = self._lay_out(row, group)
        return self.interiors[group]

    def _lay_out(self, row: Row, group: Group) -> Interior:
        members = set(group.nodes)
        parts = [part for part in self.parts if part.node in members]
        place_of = {node: number for number, part in enumerate(parts) for node in part.nodes}
        where = {node: number for number, node in enumerate(group.nodes)}
        made = Interior(parts, [self._figure(row, group, part) for part in parts])
        items = [Item(*figure.size) for figure in made.figures]
        arcs: list[Arc] = []
        wires: list[tuple[int | None, int, Wire]] = []  # (part or None for a port, head, wire)
        ports: dict[int | None, int] = {}
        for head, part in enumerate(parts):
            for wire in part.inputs:
                if wire.source in place_of:
                    tail = place_of[wire.source]
                    named = self.figures.output_name(wire)
                    arcs.append(Arc(tail, head, 1.0, 14.0 if named else 0.0))
                    wires.append((tail, head, wire))
                    continue
                slot = self._state_of(row, where, wire)
                if slot is None and self._is_quiet(wire):
                    continue
                if slot not in ports:
                    ports[slot] = len(items)
                    items.append(Item(2.0, 2.0))
                arcs.append(Arc(ports[slot], head))
                wires.append((None, head, wire))
        order = sorted(ports, key=lambda slot: (slot is None, slot or 0))
        layout = layered(items, arcs, between=12.0, across=34.0, first=[ports[slot] for slot in order if slot is not None])
        shift = (_SIDE, _HEAD)
        moved = [tuple((x + shift[0], y + shift[1]) for x, y in route) for route in layout.routes]
        made.centres = [(x + shift[0], y + shift[1]) for x, y in layout.centres[: len(parts)]]
        made.inner = [
            (tail, head, wire, route) for (tail, head, wire), route in zip(wires, moved, strict=True) if tail is not None
        ]
        for slot in order:
            x, y = layout.centres[ports[slot]]
            starting = [
                (route, head, wire)
                for (tail, head, wire), route, arc in zip(wires, moved, arcs, strict=True)
                if tail is None and arc.tail == ports[slot]
            ]
            made.ports.append((slot, (x + shift[0], y + shift[1]), starting))
        made.width = layout.width + 2 * _SIDE
        made.height = layout.height + _HEAD + _FOOT
        return made

    def _figure(self, row: Row, group: Group, part: Part) -> Figure:
        names = [
            row.slots[number] for number, (node, _) in enumerate(group.states) if node is part.node
        ]
        figure = self.figures.operation(part, states=names)
        if names or part.name != "add":
            return figure
        leaves = [self.figures.name(wire) for wire in part.inputs if self._is_weight(wire)]
        return figure if not leaves else self.figures.operation(part, facts="").named(", ".join(leaves))

    def _is_weight(self, wire: Wire) -> bool:
        return wire.source is not None and (wire.source.operation is None or wire.source in self.groups.weights)

    def _is_quiet(self, wire: Wire) -> bool:
        """Return whether a wire is not drawn: a parameter, which the box names, or a number."""
        return self._is_weight(wire) or (wire.source is None and not wire.spec.shape)

    def _state_of(self, row: Row, where: dict[Node, int], wire: Wire) -> int | None:
        for node, number in wire.uses:
            if (node, number) in self.by_use:
                return self.by_use[node, number]
            if wire.source is None and node in where:
                return self.slots.get((row, where[node], number))
        return None

    def draw(self, pen: Pen, row: Row, time: int, box: Box, slots_at: list[float]) -> None:
        """Draw the inside of a box.

        Args:
            pen: draws.
            row, time: of the cell.
            box: its frame.
            slots_at: the heights of the states on its sides.
        """
        group = row.groups[time]
        made = self.interior(row, time)
        left, top = box.x - made.width / 2, box.y - made.height / 2
        side = -1 if row.backward else 1
        boxes: list[Box] = []
        for part, figure, (x, y) in zip(made.parts, made.figures, made.centres, strict=True):
            drawn = figure.at(f"o{self.story.number[part.node]}", self._across(box, left + x, side), top + y)
            pen.add(drawn, part.nodes)
            boxes.append(drawn)

        def moved(route: tuple[Point, ...]) -> tuple[Point, ...]:
            return tuple((self._across(box, left + x, side), top + y) for x, y in route)

        for tail, head, wire, route in made.inner:
            points = moved(route)
            pen.wire(boxes[tail], boxes[head], points, self._magnitude(wire), wire)
            name = self.figures.output_name(wire)
            if name:
                pen.scene.labels.append(Label(points[0][0] + 5 * side, points[0][1] - 7, name, "start", 9.0))
        for slot, (x, y), starting in made.ports:
            port = (self._across(box, left + x, side), top + y)
            for route, head, wire in starting:
                points = moved(route)
                if slot is not None:
                    border = (box.x - side * box.width / 2, slots_at[slot])
                    bend = (border[0] + port[0]) / 2
                    points = (border, (bend, border[1]), (bend, port[1]), port, *points[1:])
                    pen.wire(box, boxes[head], points, self._magnitude(wire), wire)
                else:
                    floor = box.y + box.height / 2
                    way = ((box.x, floor), (box.x, floor - 12), (port[0], floor - 12), port)
                    pen.edge(box, None, way, self._magnitude(wire), [wire.uses[0][0]], arrow=False)
                    pen.wire(box, boxes[head], points, self._magnitude(wire), wire)
        self._leave(pen, group, row, box, boxes, made, slots_at, side)

    @staticmethod
    def _across(box: Box, x: float, side: int) -> float:
        return x if side > 0 else 2 * box.x - x

    def _magnitude(self, wire: Wire) -> float | None:
        if self.flow is None:
            return None
        node, number = wire.uses[0]
        return self.flow.edge(node, number)

    def _leave(
        self, pen: Pen, group: Group, row: Row, box: Box, boxes: list[Box], made: Interior, slots_at: list[float], side: int
    ) -> None:
        """Draw the lines from states to the right border, and from what is read above to the top."""
        at = {part.node: drawn for part, drawn in zip(made.parts, boxes, strict=True)}
        up: dict[Place, None] = {}
        for link in self.groups.links:
            if link.tail is group and link.place is not None and (link.head is None or self.table.row_of[link.head] is not row):
                up[link.place] = None
        for number, place in enumerate(group.states):
            start = at.get(place[0])
            if start is None:
                continue
            magnitude = None if self.flow is None else self.flow.total(place)
            a = (start.x + side * start.width / 2, start.y)
            b = (box.x + side * box.width / 2, slots_at[number])
            bend = b[0] - side * _SIDE / 2
            points = (a, (bend, a[1]), (bend, b[1]), b)
            pen.edge(start, None, points, magnitude, [place[0]], arrow=False)
        for place in up:
            start = at.get(self._shown(place[0], at))
            if start is None:
                continue
            magnitude = None if self.flow is None else self.flow.total(place)
            ceiling = box.y - box.height / 2
            way = (
                (start.x, start.y - start.height / 2),
                (start.x, ceiling + 14),
                (box.x, ceiling + 14),
                (box.x, ceiling),
            )
            pen.edge(start, None, way, magnitude, [place[0]], arrow=False)

    @staticmethod
    def _shown(node: Node, at: dict[Node, Box]) -> Node:
        """Return the operation that is drawn for a node: stacks of one step are looked through."""
        while node not in at and node.edges and node.edges[0] is not None:
            node = node.edges[0][0]
        return node
