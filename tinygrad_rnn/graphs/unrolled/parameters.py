"""Parameters, drawn once below the steps, and the lines that carry them up to each step and gather their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...pictures.scene.curves import Point
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH
from ...pictures.scene.scene import Box
from ..model.blocks import Block
from ..model.graph import Place, Use
from .grid import BELOW_GAP, LANE, LINE_GAP, MARGIN, PARAMETERS_WIDTH, Feed, Grid, width_below
from .parts import Parameters


@dataclass(frozen=True)
class _Wire:
    """A piece of a line from a box of parameters, or a junction (one point).

    Attributes:
        name: its id in the picture.
        box: where the line begins.
        points: corners.
        readers: the blocks to which it leads.
        uses: the uses of each parameter by these blocks, whose cotangents flow back through it.
        head: the block that it enters; None: it ends on another piece.
    """

    name: str
    box: Box
    points: tuple[Point, ...]
    readers: tuple[Block, ...]
    uses: Mapping[Place, Sequence[Use]]
    head: Block | None = None


class ParameterPlan:
    """The layout of the boxes of parameters, of the lines from them to the steps, and of the legend.

    Attributes:
        boxes: parameters and their box.
        wires: the pieces of all lines.
        bottom, right: ends of the whole layout.
        legend: corner of the legend; None: there is none.
    """

    def __init__(self, grid: Grid) -> None:
        self.boxes: list[tuple[Parameters, Box]] = []
        self.wires: list[_Wire] = []
        self.bottom = 0.0
        self.legend: Point | None = None
        parts, found = grid.parts, grid.parts.parameters
        low = grid.end + 22  # y of the first line below everything
        stems = [any(reader.step is not None for reader in own.readers) for own, _ in found] if grid.stems else []
        top = low + LINE_GAP * len(found) + 20
        wide = width_below(parts)
        end = grid.x[grid.parts.shown[-1]] + grid.right + grid.lane_room if grid.parts.shown else grid.first_left
        spare = max(wide - (end - grid.first_left), 0.0) / 2
        left = max(grid.first_left - spare, MARGIN)
        self.right = right = max(end + spare, left + wide)
        space = (right - left - wide) / max(len(found), 1)
        at = left + space / 2
        for number, (own, content) in enumerate(found):
            width, height = content.size(PARAMETERS_WIDTH)
            id = f"p{parts.table.graph.number[own.parameters[0].node]}"
            box = content.at(id, at + width / 2, top + height / 2, (width, height))
            if stems and stems[number]:
                entry = (grid.right_lane(sum(stems[:number])), grid.line_top + LINE_GAP * sum(stems[:number]))
            else:
                entry = (box.x, (low if stems else grid.line_top) + LINE_GAP * number)
            self.boxes.append((own, box))
            self.wires += _wires(grid, number, own, box, entry, low + LINE_GAP * number)
            at += width + BELOW_GAP + space
            self.bottom = max(self.bottom, height)
        self.bottom += top
        if parts.legend:
            self.legend = (right - LEGEND_WIDTH, top + 6)
            self.bottom = max(self.bottom, top + 6 + LEGEND_HEIGHT)


def _wires(grid: Grid, number: int, own: Parameters, box: Box, entry: Point, turn: float) -> list[_Wire]:
    """Return the stem, the pieces of the line between its stops, and the drop to each step.

    The line is at the y of `entry`, where the stem meets it; a stem to another x turns at the y `turn`.
    """

    def wire(piece: str, points: tuple[Point, ...], readers: tuple[Block, ...], head: Block | None = None) -> _Wire:
        return _Wire(f"{box.id}-{piece}", box, points, readers, own.uses(readers), head)

    ways = {reader: way for reader in own.readers if (way := _way(grid, (number, reader), box)) is not None}
    top = box.top
    below = [reader for reader in ways if reader.step is None and grid.parts.table.row_of[reader].y > grid.bottom]
    wires = [wire("up", ((box.x, top), *ways.pop(reader)), (reader,), reader) for reader in below]
    readers = tuple(reader for reader in own.readers if reader not in below)
    place = {reader: ways[reader][0][0] if reader in ways else grid.hidden_x(reader) for reader in readers}
    x, y = entry
    out = box.x + (16 if below else 0)
    stem: tuple[Point, ...] = ((out, top), (out, y)) if x == box.x else ((out, top), (out, turn), (x, turn), (x, y))
    if len(readers) == 1 and ways and abs(place[readers[0]] - x) < 1:
        return [*wires, wire("drop1", (*stem[:-1], *ways[readers[0]]), readers, readers[0])]
    if not ways:
        return wires
    x = stem[-1][0]
    for piece, (a, b) in enumerate(pairwise(sorted({*(way[0][0] for way in ways.values()), x})), 1):
        outward = b > x
        beyond = tuple(reader for reader, at in place.items() if (at > a + 1e-6 if outward else at < b - 1e-6))
        wires.append(wire(f"bus{piece}", ((a, y), (b, y)) if outward else ((b, y), (a, y)), beyond))
    wires.append(wire("stem", stem, readers))
    for nth, (reader, way) in enumerate(sorted(ways.items(), key=lambda pair: pair[1][0][0]), 1):
        start = (way[0][0], y)
        wires += [wire(f"drop{nth}", (start, *way), (reader,), reader), wire(f"dot{nth}", (start,), (reader,))]
    return [*wires, wire("dot", ((x, y),), readers)]


def _way(grid: Grid, feed: tuple[int, Block], box: Box) -> tuple[Point, ...] | None:
    """Return the points from a line up to a block, without the start on the line; None if the block is not drawn."""
    head = grid.place(feed[1])
    if head is None:
        return None
    row, time = grid.parts.table.row_of[feed[1]], grid.parts.table.time(feed[1])
    key: Feed = (feed[0], row)
    bottom = head.bottom
    if time is None:
        x = grid.right_lane(grid.stems + grid.wide_fed.index(key)) if key in grid.wide_fed else box.x
        return ((x, bottom),)
    straight = grid.feeds.get(key)
    if straight is not None:
        return ((grid.x[time] + straight, bottom),)
    lanes = [other for other in grid.lanes if other[1] is row]
    turn = bottom + 24 - 8 * lanes.index(key)
    enter = head.x + (0.34 - 0.1 * (len(lanes) - 1 - lanes.index(key))) * head.width
    x = grid.x[time] + grid.right + 8 + LANE * grid.lanes.index(key)
    return ((x, turn), (enter, turn), (enter, bottom))
