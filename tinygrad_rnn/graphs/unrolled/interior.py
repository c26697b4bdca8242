"""The interior of an opened cell: its operations, with states entering on the left and leaving on the right.

Inputs from below enter through the bottom, and outputs leave through the top, along strips reserved for them. The boxes
of operations name the parameters that they read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.layout.ranks import pulled_right, ranks_of
from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Row as Line
from ...pictures.scene.text import text_width
from ..content.rows import RowContent
from ..model.blocks import Block, Link
from ..model.graph import Edge
from ..model.operations import Operation
from ..model.table import Row, Table

_HEAD = 48.0  # for the name, and for lines that leave
_FOOT = 24.0  # for lines that enter
_SIDE = 22.0
_SIDES = ("above", "in", "out", "below")


class Port(NamedTuple):
    """A point at which lines cross a cell's border: "in" or "out" with the number of a state, "below", or "above"."""

    side: str
    slot: int = 0


@dataclass(frozen=True)
class Wire:
    """A line inside a cell, between operations (by number) and ports.

    Attributes:
        tail, head: its ends.
        magnitude: norm of its gradient; None if it leaves the cell: see the links in `Interior.leaving`.
        nodes: that highlight it.
        name: of the output that it carries.
        route: cubic Bezier points.
    """

    tail: int | Port
    head: int | Port
    magnitude: float | None
    nodes: list[Node]
    name: str = ""
    route: tuple[Point, ...] = ()


Leaving = dict[Port, list[Link]]
"""Port at which lines leave a cell, to the links that continue from there."""


def open_cells(content: RowContent, shown: Collection[int]) -> dict[Block, Interior]:
    """Return the interiors of all cells at some times."""
    leaving = _leaving(content.table)
    cells = [row for row in content.table.rows if row.role == "cell"]
    steps = [(row, row.blocks[time]) for row in cells for time in shown if time in row.blocks]
    return {block: Interior(content, row, block, leaving.get(block, {})) for row, block in steps}


def _leaving(table: Table) -> dict[Block, Leaving]:
    """Return block to the ports at which links leave it."""
    found: dict[Block, Leaving] = {}
    for link in table.blocks.links:
        if link.tail is None or link.place is None:
            continue
        row, leaving = table.row_of[link.tail], found.setdefault(link.tail, {})
        if link.head is None or (table.row_of[link.head] is not row and table.ends(link) is None):
            leaving.setdefault(Port("above"), []).append(link)
        elif link.place in link.tail.states and table.row_of[link.head] is row:
            leaving.setdefault(Port("out", link.tail.states.index(link.place)), []).append(link)
    return found


class Interior:
    """The operations of one cell at one step, laid out; (0, 0) is the upper left corner of its box.

    Args:
        content: builder of the contents of boxes.
        row, block: the cell.
        leaving: the links that leave it.

    Attributes:
        boxes: operations, and the contents and centres of their boxes.
        wires: lines between them.
        leaving: as above.
        width, height: of the box.
    """

    def __init__(self, content: RowContent, row: Row, block: Block, leaving: Leaving) -> None:
        self.flow, self.table, self.content, self.leaving = content.flow, content.table, content, leaving
        contents, wires, count = self._contents(row, block), self._wires(block), len(block.ops)
        ends = {end for wire in wires for end in (wire.tail, wire.head) if isinstance(end, Port)}
        ports = sorted(ends, key=lambda port: (_SIDES.index(port.side), port.slot))
        number: dict[int | Port, int] = {n: n for n in range(count)}
        number |= {port: count + place for place, port in enumerate(ports)}
        pairs = [(number[wire.tail], number[wire.head]) for wire in wires]
        ranks = pulled_right(ranks_of(count + len(ports), pairs), pairs)
        if ports and min(ranks[:count], default=1) == 0:  # ports have the first column to themselves
            ranks = [rank + 1 for rank in ranks]
        for port in ports:
            ranks[number[port]] = 0 if port.side in ("in", "below") else max(ranks[:count]) + 1
        stubs = [text_width(wire.name, 9) + 8 if wire.name else 0.0 for wire in wires]
        layout = layered(
            [*(Item(*content.size()) for content in contents), *(Item(2.0, 2.0) for _ in ports)],
            [Arc(*pair, stub=stub) for pair, stub in zip(pairs, stubs, strict=True)],
            ranks=ranks,
            between=14.0,
            across=34.0,
            first=[number[port] for port in ports if port.side != "below"],
            last=[number[port] for port in ports if port.side == "below"],
        )
        centres = [(x + _SIDE, y + _HEAD) for x, y in layout.centres[:count]]
        routes = [tuple((x + _SIDE, y + _HEAD) for x, y in route) for route in layout.routes]
        self.boxes = list(zip(block.ops, contents, centres, strict=True))
        self.wires = [replace(wire, route=route) for wire, route in zip(wires, routes, strict=True)]
        self.width, self.height = layout.width + 2 * _SIDE, layout.height + _HEAD + _FOOT

    # -- lines --------------------------------------------------------------------------------------------------------

    def _wires(self, block: Block) -> list[Wire]:
        place_of = {node: number for number, op in enumerate(block.ops) for node in op.nodes}
        wires: list[Wire] = []
        for head, op in enumerate(block.ops):
            for edge in op.inputs:
                tail: int | Port
                if edge.source in place_of and not edge.cuts:
                    tail = place_of[edge.source]
                else:
                    slot = self.table.slot_of(block, edge.use)
                    number = edge.source is None and not edge.spec.shape
                    if slot is None and (number or self._is_weight(edge)):  # which the box names
                        continue
                    tail = Port("below") if slot is None else Port("in", slot)
                wires.append(
                    Wire(tail, head, self.flow.terms.get(edge.use), [edge.use[0]], self.content.output_name(edge))
                )
        leaving = [(Port("out", number), node) for number, (node, _) in enumerate(block.states)]
        read = dict.fromkeys(link.place for link in self.leaving.get(Port("above"), ()))
        leaving += [(Port("above"), place[0]) for place in read if place is not None]
        for port, node in leaving:
            maker = node
            while maker not in place_of and maker.edges and maker.edges[0] is not None:  # it only moves elements
                maker = maker.edges[0][0]
            if maker in place_of:
                wires.append(Wire(place_of[maker], port, None, [node]))
        return wires

    def _is_weight(self, edge: Edge) -> bool:
        return bool(self.table.blocks.flow.leaves_of(edge.source))

    # -- boxes --------------------------------------------------------------------------------------------------------

    def _contents(self, row: Row, block: Block) -> list[Content]:
        contents = [self._content(row, block, op) for op in block.ops]
        # An initial state may be a constant without a name: the same operation of a later step says what it reads.
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
