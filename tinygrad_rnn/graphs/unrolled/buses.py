"""Parameters, drawn once below the steps, and the buses that carry them up and their gradients down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.scene.curves import Point
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH
from ...pictures.scene.scene import Box
from ..content.builder import ContentBuilder
from ..model.blocks import Block, Blocks, Link
from ..model.graph import Graph, Parameter, Place, Use
from ..model.table import Row, Table
from .grid import BUS_GAP, MARGIN, Feed, Grid
from .pen import Pen

_APART = 28.0  # between two boxes of parameters


@dataclass(eq=False)
class Bus:
    """Parameters that stand in one box, and all blocks that read them.

    Attributes:
        row: where they are read first.
        parameters: what stands in the box.
        links: from them to blocks.
    """

    row: Row
    parameters: list[Parameter] = field(default_factory=list)
    links: dict[Link, None] = field(default_factory=dict)

    @property
    def heads(self) -> list[Block]:
        """The blocks that read them, each once."""
        return list(dict.fromkeys(link.head for link in self.links if link.head is not None))

    def uses(self, blocks: Iterable[Block]) -> dict[Place, list[Use]]:
        """Return place to its uses in these blocks."""
        wanted = set(blocks)
        found: dict[Place, list[Use]] = {}
        for link in self.links:
            if link.head in wanted and link.place is not None:
                found.setdefault(link.place, []).extend(link.uses)
        return found


def find_buses(graph: Graph, blocks: Blocks, table: Table) -> list[Bus]:
    """Return the parameters of a picture, in one box for each row that reads them first."""
    named = {parameter.node: parameter for parameter in graph.parameters}
    starts = {value for value in table.starts.values() if isinstance(value, Link)}
    home: dict[Node, Bus] = {}
    buses: dict[Row, Bus] = {}
    order = {row: number for number, row in enumerate(table.rows)}
    links = [
        link
        for link in blocks.links
        if link.tail is None and link.head is not None and link.place is not None and link not in starts
    ]
    for link in sorted(links, key=lambda link: order[table.row_of[link.head]]):  # type: ignore[index]
        assert link.place is not None
        assert link.head is not None
        node = link.place[0]
        for leaf in (node,) if node.operation is None else blocks.weights.get(node, ()):
            if leaf not in home:
                row = table.row_of[link.head]
                home[leaf] = buses.setdefault(row, Bus(row))
                home[leaf].parameters.append(named[leaf])
            home[leaf].links[link] = None
    for bus in buses.values():
        bus.parameters.sort(key=lambda parameter: graph.number[parameter.node])
    return list(buses.values())


@dataclass(frozen=True)
class _Strand:
    """A line of a bus: its magnitude is what the parameters get from `heads`."""

    name: str
    points: tuple[Point, ...]
    heads: tuple[Block, ...]
    head: Box | None = None
    dot: bool = False

    @property
    def nodes(self) -> list[Node]:
        return [node for head in self.heads for node in head.nodes]


@dataclass
class Harness:
    """All buses of a picture, planned: the boxes are drawn, the lines wait until their magnitudes are known."""

    pen: Pen
    strands: list[tuple[Bus, Box, _Strand]] = field(default_factory=list)
    bottom: float = 0.0
    right: float = 0.0

    def want(self) -> None:
        """Ask for the magnitudes of all lines."""
        for number, (bus, _, strand) in enumerate(self.strands):
            self.pen.want({("bus", number, place): uses for place, uses in bus.uses(strand.heads).items()})

    def draw(self) -> None:
        """Draw the lines."""
        for number, (bus, box, strand) in enumerate(self.strands):
            found = [self.pen.found.get(("bus", number, place)) for place in bus.uses(strand.heads)]
            known = [value for value in found if value is not None]
            magnitude = math.hypot(*known) if known else None
            if strand.dot:
                self.pen.dot(strand.name, *strand.points[0], magnitude, strand.nodes)
            else:
                arrow = strand.head is not None
                self.pen.edge(box, strand.head, strand.points, magnitude, strand.nodes, arrow=arrow, name=strand.name)


def plan_buses(
    pen: Pen, content: ContentBuilder, grid: Grid, table: Table, buses: Sequence[Bus], box: dict[Block, Box]
) -> Harness:
    """Draw the boxes of parameters and the legend below the steps, and plan the lines between them and the steps."""
    harness = Harness(pen)
    sizes = bus_sizes(buses, content)
    low = grid.end + 22  # of the first bus below everything
    stems = [any(head.step is not None for head in bus.heads) for bus in buses] if grid.stems else []
    top = low + BUS_GAP * len(buses) + 20
    total = sum(width for width, _ in sizes) + _APART * (len(sizes) - 1)
    has_legend = pen.flow is not None or bool(pen.graph.cuts)
    room = LEGEND_WIDTH + 40 if has_legend else 0.0
    end = grid.x[grid.shown[-1]] + grid.right + grid.lane_room if grid.shown else grid.first_left
    spare = max(total + room - (end - grid.first_left), 0.0) / 2
    left = max(grid.first_left - spare, MARGIN)
    right = max(end + spare, left + total + room)
    space = (right - left - room - total) / max(len(sizes), 1)
    at = left + space / 2
    for number, (bus, (width, height)) in enumerate(zip(buses, sizes, strict=True)):
        name = f"p{pen.graph.number[bus.parameters[0].node]}"
        nodes = [node for head in bus.heads for node in head.nodes]
        target = pen.box(name, _content(bus, content), at + width / 2, top + height / 2, width, height, nodes)
        if stems and stems[number]:
            entry = (grid.right_lane(sum(stems[:number])), grid.bus_top + BUS_GAP * sum(stems[:number]))
        else:
            entry = (target.x, (low if stems else grid.bus_top) + BUS_GAP * number)
        _plan(harness, grid, table, number, bus, target, entry, low + BUS_GAP * number, box)
        at += width + _APART + space
    harness.bottom = top + max((height for _, height in sizes), default=0.0)
    harness.right = right
    if has_legend:
        pen.scene.legend = (right - LEGEND_WIDTH, top + 6)
        harness.bottom = max(harness.bottom, top + 6 + LEGEND_HEIGHT)
    harness.want()
    return harness


def bus_sizes(buses: Sequence[Bus], content: ContentBuilder) -> list[tuple[float, float]]:
    """Return width and height of the boxes of parameters."""
    return [_content(bus, content).size(120) for bus in buses]


def width_below(buses: Sequence[Bus], content: ContentBuilder) -> float:
    """Return how wide the parameters and the legend are, side by side."""
    sizes = bus_sizes(buses, content)
    legend = LEGEND_WIDTH + 40 if content.flow is not None or content.graph.cuts else 0.0
    return sum(width for width, _ in sizes) + _APART * (len(sizes) - 1) + legend


def _content(bus: Bus, builder: ContentBuilder) -> Content:
    return builder.parameters(bus.row.blocks[max(bus.row.blocks)].name, bus.parameters)


def _plan(
    harness: Harness,
    grid: Grid,
    table: Table,
    number: int,
    bus: Bus,
    target: Box,
    entry: Point,
    turn: float,
    box: dict[Block, Box],
) -> None:
    """Plan the stem, the pieces of the bus between its stops, and the drop to each step.

    The bus lies at the height of `entry`, where the stem meets it; a stem to another x turns at the height `turn`.
    """
    ways = {
        head: _way(grid, table, (number, table.row_of[head]), head, box[head], target)
        for head in bus.heads
        if head in box
    }
    top = target.y - target.height / 2
    low = [head for head in ways if head.step is None and table.row_of[head].y > grid.bottom]
    strands = [_Strand(f"{target.id}-up", ((target.x, top), *ways[head]), (head,), box[head]) for head in low]
    heads = tuple(head for head in bus.heads if head not in low)
    place = {head: ways[head][0][0] if head in ways else _hidden_x(grid, table, head) for head in heads}
    ways = {head: way for head, way in ways.items() if head not in low}
    x, y = entry
    out = target.x + (16 if low else 0)
    stem: tuple[Point, ...] = ((out, top), (out, y)) if x == target.x else ((out, top), (out, turn), (x, turn), (x, y))
    if len(heads) == 1 and ways and abs(place[heads[0]] - x) < 1:
        strands.append(_Strand(f"{target.id}-drop1", (*stem[:-1], *ways[heads[0]]), heads, box[heads[0]]))
    elif ways:
        x = stem[-1][0]
        stops = sorted({*(way[0][0] for way in ways.values()), x})
        for piece, (a, b) in enumerate(pairwise(stops), 1):
            outward = b > x
            beyond = tuple(head for head, at in place.items() if (at > a + 1e-6 if outward else at < b - 1e-6))
            ends = ((a, y), (b, y)) if outward else ((b, y), (a, y))
            strands.append(_Strand(f"{target.id}-bus{piece}", ends, beyond))
        strands.append(_Strand(f"{target.id}-stem", stem, heads))
        for nth, (head, way) in enumerate(sorted(ways.items(), key=lambda pair: pair[1][0][0]), 1):
            start = (way[0][0], y)
            strands.append(_Strand(f"{target.id}-drop{nth}", (start, *way), (head,), box[head]))
            strands.append(_Strand(f"{target.id}-dot{nth}", (start,), (head,), dot=True))
        strands.append(_Strand(f"{target.id}-dot", ((x, y),), heads, dot=True))
    harness.strands += [(bus, target, strand) for strand in strands]


def _hidden_x(grid: Grid, table: Table, head: Block) -> float:
    time = table.time(head)
    return grid.x.get(time, grid.first_left) if time is not None else grid.first_left


def _way(grid: Grid, table: Table, feed: Feed, head: Block, box: Box, target: Box) -> tuple[Point, ...]:
    """Return the way up from a bus to a block, without its start on the bus."""
    row, time = feed[1], table.time(head)
    bottom = box.y + box.height / 2
    if time is None:
        fed = grid.wide_fed
        x = grid.right_lane(grid.stems + fed.index(feed)) if feed in fed else target.x
        return ((x, bottom),)
    straight = grid.feeds.get(feed)
    if straight is not None:
        return ((grid.x[time] + straight, bottom),)
    own = [other for other in grid.lanes if other[1] is row]
    turn, enter = bottom + 24 - 8 * own.index(feed), box.x + (0.34 - 0.1 * (len(own) - 1 - own.index(feed))) * box.width
    x = grid.lane_x(feed, time)
    return ((x, turn), (enter, turn), (enter, bottom))
