"""Layout of the rolled view: a row for each cell, the lowest cell at the bottom, values flowing to the right.

Readers of the top cell come after it in the same row. Each row is laid out by `layered`; lines between rows run in the
space between them, and parameters are put below the row that reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ...pictures.layout.diagram import DiagramEdge
from ...pictures.layout.layered import Arc, Item, Layout, layered
from ...pictures.layout.nested import Borders
from ...pictures.layout.ranks import pulled_right, ranks_of
from ...pictures.layout.spacing import separated
from ...pictures.scene.curves import Point, bezier
from ...pictures.scene.scene import Box, Edge
from ...pictures.scene.text import text_width
from .areas import Area
from .diagram import Loop, RolledDiagram

TOP = 84.0  # below the headline
LEFT = 30.0
SHORT = 4  # longest label that is drawn, in characters; longer ones would push the columns apart
_TALL, _LOW = 58.0, 40.0  # height of a loop with bars, and without
_PAD = 18.0  # between the boxes of an area and its border
_HEAD = 16.0  # for the label of an area
_SIDE = 16.0  # for each loop that enters from the left
_PARAMETERS = 34.0  # from the areas down to their parameters
_ACROSS = 34.0  # between columns
_LOOP_ROOM = 170.0  # width for the scissors and bars on the loop of a closed cell
_LANE = 11.0  # between two parallel lines


class _Gate(NamedTuple):
    """The point at which line number `line` leaves or enters its row."""

    line: int
    out: bool


class _Row:
    """A row before layout. Its items are boxes, by their ids, and gates.

    Attributes:
        diagram: the whole diagram.
        areas: in order.
        index: each item to its number.
        loops: of its cells.
        readers: numbers of the boxes that read parameters.
        lines: those between its items: number of a line within the row, or the gate of one that leaves or enters.
        arcs: the lines as arcs between items.
    """

    def __init__(self, diagram: RolledDiagram, areas: list[Area], gates: list[_Gate]) -> None:
        self.diagram, self.areas = diagram, areas
        items: list[str | _Gate] = [*(box for area in areas for box in area.members), *gates]
        self.index = {item: number for number, item in enumerate(items)}
        self.loops = [loop for loop in diagram.loops if loop.source in self.index]
        reading = {box for readers in diagram.parameters.values() for box, _ in readers}
        self.readers = {self.index[box] for box in reading if box in self.index}
        ends = [(line.tail, line.head) for line in diagram.edges]
        self.lines: list[int | _Gate] = [n for n, (a, b) in enumerate(ends) if a in self.index and b in self.index]
        self.arcs = [self._arc(n, *ends[n]) for n in self.lines if isinstance(n, int)]
        for gate in gates:
            tail, head = ends[gate.line]
            pair = (tail, gate) if gate.out else (gate, head)
            self.arcs.append(Arc(self.index[pair[0]], self.index[pair[1]]))
        self.lines += gates

    def _arc(self, number: int, tail: str, head: str) -> Arc:
        """Return a line within the row, with the room that it needs at its start."""
        label, of_delay = self.diagram.edges[number].label, any(loop.delay == tail for loop in self.loops)
        stub = text_width(label, 9) + 4 if 0 < len(label) <= SHORT else 0.0
        stub = _LOOP_ROOM if self.diagram.closed and of_delay else stub
        area = next(area for area in self.areas if head in area.members)
        if tail not in area.members:  # room for the loops that enter the area from the left
            stub = max(stub, _SIDE * (sum(loop.delay in area.members for loop in self.loops) - 2))
        return Arc(self.index[tail], self.index[head], 4.0 if of_delay else 1.0, stub)

    def gates(self, out: bool) -> list[_Gate]:
        """Return the gates at which lines leave (`out`) or enter."""
        return [item for item in self.index if isinstance(item, _Gate) and item.out == out]

    @property
    def first(self) -> list[_Gate]:
        """The gates of lines that enter the first area."""
        return [gate for gate in self.gates(False) if self.diagram.edges[gate.line].head in self.areas[0].members]


def _rows(diagram: RolledDiagram) -> list[_Row]:
    """Return the rows, lowest first; each cell begins a new one."""
    found: list[list[Area]] = [[]]
    for area in diagram.areas:
        if area.cell and any(other.cell for other in found[-1]):
            found.append([])
        found[-1].append(area)
    row_of = {box: number for number, areas in enumerate(found) for area in areas for box in area.members}
    rows = []
    for number, areas in enumerate(found):
        ends = [(row_of[line.tail] == number, row_of[line.head] == number) for line in diagram.edges]
        leaving = [_Gate(n, True) for n, (tail, head) in enumerate(ends) if tail and not head]
        entering = [_Gate(n, False) for n, (tail, head) in enumerate(ends) if head and not tail]
        rows.append(_Row(diagram, areas, leaving + entering))
    return rows


class RolledLayout:
    """The positions of everything in a rolled picture: its rows are placed one below the other.

    Args:
        diagram: what is placed.

    Attributes:
        boxes: id to box; a parameter has one for each row that reads it.
        routes: number of a line to cubic Bezier points from tail to head.
        loops: loops, each with the y of its line and how many others it encloses.
        frames: all areas with their borders, those of the top row first.
        feeds: edges from parameters up to their readers, each with its points.
        bottom: y of the lower end of the lowest row.
    """

    def __init__(self, diagram: RolledDiagram) -> None:
        self.diagram, self.bottom = diagram, TOP
        self.boxes: dict[str, Box] = {}
        self.routes: dict[int, tuple[Point, ...]] = {}
        self.loops: list[tuple[Loop, float, int]] = []
        self.frames: list[tuple[Area, Borders]] = []
        self.feeds: list[tuple[DiagramEdge, tuple[Point, ...]]] = []
        self._gates: dict[_Gate, tuple[Point, ...]] = {}  # routes from a box to the border of its row, or back
        bars = any(loop.norms for loop in diagram.loops)
        self._tall = (_TALL if bars else _LOW) + (14.0 if diagram.closed else 0.0)  # height of a loop
        rows = _rows(diagram)
        self.bottom += _SIDE * bool(rows[-1].gates(True))  # lines from the top row down pass below the headline
        tops = {gate: top for row in reversed(rows) for top in [self._place(row)] for gate in row.gates(True)}
        first = {gate for row in rows for gate in row.first}
        for lane, (gate, top) in enumerate(sorted(tops.items())):
            into = self._gates[gate._replace(out=False)]
            back = into[0][0] - 3 - 6 * lane
            if gate._replace(out=False) in first:
                lefts = [left for _, (left, upper, _, _) in self.frames if upper < top]
                back = min([*lefts, into[0][0]]) - 10 - 8 * lane
            self.routes[gate.line] = _between(self._gates[gate], into, back, top - 12, lane)

    def _place(self, row: _Row) -> float:
        """Place a row below the previous ones; return the y of its top."""
        ranks = _ranks(row)
        nested = sorted(row.loops, key=lambda loop: ranks[row.index[loop.source]] - ranks[row.index[loop.delay]])
        high = [row.index[box] for loop in nested for box in (loop.delay, loop.source)]
        entering = {row.index[gate] for gate in row.gates(False)}
        sizes = [self.diagram.boxes[name].size() if isinstance(name, str) else (0.0, 0.0) for name in row.index]
        layout = layered(
            [Item(*size) for size in sizes],
            row.arcs,
            ranks=ranks,
            across=_ACROSS,
            first=list(dict.fromkeys(high)),
            last=(row.readers | entering) - set(high),
            spine=_spine(row),
        )
        loops_of = [[loop for loop in nested if loop.source in area.members] for area in row.areas]
        over = max(self._tall * len(loops) for loops in loops_of)
        top = self.bottom + _LANE * len(row.gates(True))
        upper = top + (over + 4 if row.loops else 0.0)
        early = any(ranks[row.index[loop.delay]] <= 1 for loop in row.loops)
        x0 = LEFT + _PAD + (_SIDE * len(row.loops) if early else 0.0) + 8.0 * len(row.first)
        y0 = upper + _HEAD + _PAD
        self._put(row, layout, (x0, y0))
        bottom = y0 + layout.height + _PAD
        for area, loops in zip(row.areas, loops_of, strict=True):
            self.loops += [(loop, y0 - 24 - level * self._tall, level) for level, loop in enumerate(loops)]
            self.frames.append((area, self._borders(area, loops, y0, bottom)))
        self.bottom = self._parameters(row, bottom) + 26
        return y0 - _HEAD - _PAD - over - 4

    def _put(self, row: _Row, layout: Layout, corner: Point) -> None:
        """Record the positions of the boxes and lines of a row."""
        x0, y0 = corner
        for name, (x, y) in zip(row.index, layout.centres, strict=True):
            if isinstance(name, str):
                self.boxes[name] = self.diagram.boxes[name].at(name, x0 + x, y0 + y)
        for line, route in zip(row.lines, layout.routes, strict=True):
            moved = tuple((x0 + x, y0 + y) for x, y in route)
            if isinstance(line, _Gate):
                self._gates[line] = moved
            else:
                self.routes[line] = moved

    def _borders(self, area: Area, loops: Sequence[Loop], top: float, bottom: float) -> Borders:
        """Return the borders of an area whose boxes lie between two heights, with room for its loops above them."""
        members = [self.boxes[member] for member in area.members]
        lefts = [box.left - _PAD for box in members]
        lefts += [self.boxes[loop.delay].x - 44.0 - 15.0 * level for level, loop in enumerate(loops)]
        right = max(box.right for box in members) + _PAD
        upper = top - _HEAD - _PAD - (len(loops) * self._tall + 4 if loops else 0.0)
        return min(lefts), upper, right, bottom

    def _parameters(self, row: _Row, bottom: float) -> float:
        """Place the parameters that a row reads below it, each below its first reader; return their lowest y."""
        placed = self.boxes
        mine = [(id, [read for read in found if read[0] in row.index]) for id, found in self.diagram.parameters.items()]
        mine = sorted(((id, found) for id, found in mine if found), key=lambda pair: placed[pair[1][0][0]].x)
        if not mine:
            return bottom
        sizes = [self.diagram.boxes[id].size() for id, _ in mine]
        # Lines that rise from below into a later area pass between the parameters, and keep their place.
        rising = [self._gates[gate][0][0] - 6 for gate in row.gates(False) if gate not in row.first]
        wanted = [(placed[found[0][0]].x, width, 1.0, id) for (id, found), (width, _) in zip(mine, sizes, strict=True)]
        wanted = sorted([*wanted, *((x, 20.0, 1e6, "") for x in rising)], key=lambda item: item[0])
        gaps = [(one[1] + two[1]) / 2 + 14 for one, two in pairwise(wanted)]
        xs = separated([item[0] for item in wanted], [item[2] for item in wanted], gaps)
        shift = max(0.0, LEFT - (xs[0] - wanted[0][1] / 2))
        tallest = max(height for _, height in sizes)
        y = bottom + _PARAMETERS + tallest / 2
        boxes: dict[str, str] = {}  # a parameter that several rows read has a box in each
        for (_, _, _, id), x in zip(wanted, xs, strict=True):
            if id:
                boxes[id] = id if id not in placed else f"{id} {dict(mine)[id][0][0]}"
                placed[boxes[id]] = self.diagram.boxes[id].at(boxes[id], round(x + shift, 1), y)
        self._feed([(boxes[id], found) for id, found in mine], bottom)
        return y + tallest / 2

    def _feed(self, mine: Sequence[tuple[str, list[tuple[str, float | None]]]], bottom: float) -> None:
        """Add the lines from the parameters of a row to their readers; lines into one box are spread."""
        counts = Counter(box for _, found in mine for box, _ in found)
        taken: Counter[str] = Counter()
        for lane, (id, found) in enumerate(mine):
            own = self.boxes[id]
            for box, magnitude in found:
                reader = self.boxes[box]
                x = reader.x + (taken[box] - (counts[box] - 1) / 2) * 16
                taken[box] += 1
                middle = bottom + 9 + (lane % 3) * 7
                bend = () if abs(own.x - x) < own.width / 2 - 14 else ((own.x, own.top), (own.x, middle), (x, middle))
                points = (*(bend or ((x, own.top),)), (x, reader.bottom))
                self.feeds.append((DiagramEdge(id, box, magnitude), points))


def _ranks(row: _Row) -> list[int]:
    """Return the column of each item: area after area, with one reader of parameters, and no data below it, in each."""
    ranks = [0] * len(row.index)
    delays = {row.index[loop.delay] for loop in row.loops}
    start = 1 if row.first else 0
    for area in row.areas:
        own = [row.index[box] for box in area.members]
        found = _columns(own, row, delays)
        for item, rank in zip(own, found, strict=True):
            ranks[item] = start + rank
        for gate in row.gates(False):  # just before the area that reads it
            if row.diagram.edges[gate.line].head in area.members:
                ranks[row.index[gate]] = start - 1
        start += max(found, default=0) + 2
    for gate in row.gates(True):
        ranks[row.index[gate]] = start - 1
    return ranks


def _columns(own: Sequence[int], row: _Row, delays: set[int]) -> list[int]:
    """Return the columns of one area."""
    local = {number: place for place, number in enumerate(own)}
    pairs = [(local[arc.tail], local[arc.head]) for arc in row.arcs if arc.tail in local and arc.head in local]
    eager = sorted(local[number] for number in row.readers if number in local)
    reads_state = {local[arc.head] for arc in row.arcs if arc.tail in delays and arc.head in local}
    while True:  # two readers of parameters in one column are put one after the other
        found = pulled_right(ranks_of(len(own), pairs), pairs)
        clash = next(((a, b) for a in eager for b in eager if a != b and found[a] == found[b]), None)
        if clash is None:
            break
        a, b = clash
        pairs.append((b, a) if b in reads_state and a not in reads_state else (a, b))
    taken = {found[a] for a in eager}
    fed = {head for _, head in pairs}
    for item, rank in enumerate(found):
        if own[item] in delays:
            found[item] = 0
        elif item not in fed and item not in eager:
            found[item] = next((free for free in range(rank, 0, -1) if free not in taken), 0)
    return found


def _spine(row: _Row) -> set[int]:
    """Return the items of the longest path from a delay, which are kept on one straight line."""
    delays = {row.index[loop.delay] for loop in row.loops}
    if not delays:
        return set()
    tails: dict[int, list[int]] = {}
    for arc in row.arcs:
        tails.setdefault(arc.head, []).append(arc.tail)
    count = len(row.index)
    length = {number: 1 if number in delays else -count for number in range(count)}
    way: dict[int, int] = {}
    order = ranks_of(count, [(arc.tail, arc.head) for arc in row.arcs])
    for item in sorted(range(count), key=order.__getitem__):
        for tail in tails.get(item, ()):
            if length[tail] + 1 > length[item]:
                length[item], way[item] = length[tail] + 1, tail
    item = max(range(count), key=length.__getitem__)
    spine = {item}
    while item in way:
        item = way[item]
        spine.add(item)
    return spine


def _between(out: tuple[Point, ...], into: tuple[Point, ...], back: float, y: float, lane: int) -> tuple[Point, ...]:
    """Return the route of a line to a row above: out to the right, back in the space between the rows, and up."""
    x, y = out[-1][0] + 14 + 8 * lane, y - _LANE * lane
    way = Edge("", "", "", (out[-1], (x, out[-1][1]), (x, y), (back, y), (back, into[0][1]), into[0]))
    return (*out, *bezier(way)[1:], *into[1:])
