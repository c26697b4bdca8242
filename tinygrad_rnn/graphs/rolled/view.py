"""The rolled view: one step, its operations from left to right, and the state carried back over the top.

Each cell is a row with its parameters below it; what reads the top cell stands behind it in the same row. Places come
from `layered`, one call a row; lines from row to row run in the space between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.layout.ranks import pulled_right, ranks_of
from ...pictures.layout.spacing import separated
from ...pictures.scene.curves import bezier
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH, short_number
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Edge, EdgeKind, Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.operations import operations_of
from ..model.rolling import Unlike, roll
from ..options import Options
from ..unrolled.view import unrolled
from .blocks import Block
from .loops import TALL, draw_loop
from .sketch import Line, Loop, Sketch, Sketcher

Point = tuple[float, float]

_PAD = 18.0  # between the boxes of a module and its border
_TOP = 84.0  # below the headline
_LEFT = 30.0
_HEAD = 16.0  # for the label of a module
_SIDE = 16.0  # for each loop that enters from the left
_PARAMETERS = 34.0  # from the modules down to their parameters
_ACROSS = 34.0  # between columns
_SHORT = 4  # characters of a label that is drawn; longer ones would push the columns apart
_LANE = 11.0  # between two lines that run beside each other


def rolled(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the picture of one step with its loops; unrolled, with the reason as a note, where steps do not match.

    Args:
        graph: what was recorded.
        flow: its gradient; None: no gradient is drawn.
        options: `steps` and `depth` say nothing here: a rolled picture shows the operations of one step.
    """
    rolling = roll(graph, operations_of(graph))
    if isinstance(rolling, Unlike):
        note = f"not rolled: {rolling.reason}"
        return unrolled(graph, flow, replace(options, note=f"{options.note} · {note}" if options.note else note))
    sketch = Sketcher(graph, flow, rolling).draw()
    T = len(rolling.steps)
    facts = [f"one step, repeated {T} times"]
    for loop in sketch.loops:
        row = sketch.figures[loop.source].rows[0].text.rpartition(" · ")[2]
        facts.append(f"state {loop.name} {row}")
    if flow is not None:
        facts.append("gradients: root mean square over the steps")
    scene = Scene(options.title or "rolled", " · ".join(dict.fromkeys([*facts, *filter(None, [options.note])])))
    _Picture(sketch, scene, T, flow is not None).draw()
    scene.reach = reach_of(scene, sketch.losses)
    return scene


class _Row(NamedTuple):
    blocks: list[Block]
    lines: list[Line]  # between boxes of this row, its gates among them


class _Picture:
    """Places a sketch into a scene, row by row, the lowest cell at the bottom."""

    def __init__(self, sketch: Sketch, scene: Scene, T: int, gradients: bool) -> None:
        self.sketch, self.scene, self.T, self.gradients = sketch, scene, T, gradients
        magnitudes = [line.magnitude for line in sketch.lines]
        magnitudes += [magnitude for readers in sketch.parameters.values() for _, magnitude in readers]
        magnitudes += [norm for loop in sketch.loops for norm in loop.norms]
        scene.scale = Scale.of(m for m in magnitudes if m) if gradients else None
        self.places: dict[str, Point] = {}
        self.gates: dict[str, tuple[Point, ...]] = {}
        self.routes: dict[int, tuple[Point, ...]] = {}
        self.tops: dict[int, float] = {}
        self.top = _TOP

    def draw(self) -> None:
        rows, between = self._rows()
        y = _TOP
        for number in reversed(range(len(rows))):
            leaving = [line for line, (start, _) in between.items() if start == number]
            y = self._row(rows[number], y + _LANE * len(leaving))
            self.tops[number] = self.top
        for lane, (number, (start, end)) in enumerate(between.items()):
            self._between(number, start, end, lane)
        self._finish(y)

    def _rows(self) -> tuple[list[_Row], dict[int, tuple[int, int]]]:
        """Return the rows, lowest first, and the lines from row to row: number of the line to both rows."""
        blocks: list[list[Block]] = [[]]
        for block in self.sketch.blocks:
            if block.cell and any(other.cell for other in blocks[-1]):
                blocks.append([])
            blocks[-1].append(block)
        row_of = {box: number for number, row in enumerate(blocks) for block in row for box in block.members}
        rows = [_Row(row, []) for row in blocks]
        between: dict[int, tuple[int, int]] = {}
        for number, line in enumerate(self.sketch.lines):
            a, b = row_of[line.tail], row_of[line.head]
            if a == b:
                rows[a].lines.append(line)
            else:
                between[number] = (a, b)
        return rows, between

    def _row(self, row: _Row, top: float) -> float:
        """Place one row below `top`; return where the next one may begin."""
        members = [box for block in row.blocks for box in block.members]
        exits = {
            n: line for n, line in enumerate(self.sketch.lines) if line.tail in members and line.head not in members
        }
        entries = {
            n: line for n, line in enumerate(self.sketch.lines) if line.head in members and line.tail not in members
        }
        gates = [*(f"exit{number}" for number in exits), *(f"entry{number}" for number in entries)]
        names = [*members, *gates]
        index = {name: number for number, name in enumerate(names)}
        loops = [loop for loop in self.sketch.loops if loop.source in index]
        belt = {loop.delay for loop in loops}
        arcs, lines = [], []
        for line in row.lines:
            stub = text_width(line.label, 9) + 4 if 0 < len(line.label) <= _SHORT else 0.0
            arcs.append(Arc(index[line.tail], index[line.head], 4.0 if line.tail in belt else 1.0, stub))
            lines.append(line)
        for number, line in exits.items():
            arcs.append(Arc(index[line.tail], index[f"exit{number}"]))
        for number, line in entries.items():
            arcs.append(Arc(index[f"entry{number}"], index[line.head]))
        ranks = self._ranks(row.blocks, index, arcs, len(exits), len(entries))
        figures = [self.sketch.figures.get(name) for name in names]
        items = [Item(*figure.size()) if figure else Item(0.0, 0.0) for figure in figures]
        readers = {index[box] for found in self.sketch.parameters.values() for box, _ in found if box in index}
        entering = {index[f"entry{number}"] for number in entries}
        nested = sorted(loops, key=lambda loop: ranks[index[loop.source]] - ranks[index[loop.delay]])
        high = [index[box] for loop in nested for box in (loop.delay, loop.source)]
        layout = layered(
            items,
            arcs,
            ranks=ranks,
            across=_ACROSS,
            first=high,
            last=(readers | entering) - set(high),
            spine=self._spine(index, arcs, loops),
        )
        tall = TALL if self.gradients else 40.0
        over = {block.label: tall * sum(loop.source in block.members for loop in loops) for block in row.blocks}
        y0 = top + _HEAD + _PAD + (max(over.values(), default=0.0) + 4 if loops else 0.0)
        first = min((ranks[index[loop.delay]] for loop in loops), default=1)
        x0 = _LEFT + _PAD + (_SIDE * len(loops) if loops and first <= 1 else 0.0) + 8.0 * len(entries)
        moved = [tuple((x0 + x, y0 + y) for x, y in route) for route in layout.routes]
        for name in members:
            x, y = layout.centres[index[name]]
            self.places[name] = (x0 + x, y0 + y)
        for line, route in zip(lines, moved, strict=False):
            self.routes[self.sketch.lines.index(line)] = route
        for gate, route in zip(gates, moved[len(lines) :], strict=True):
            self.gates[gate] = route
        bottom = y0 + layout.height + _PAD
        for block in row.blocks:
            self._region(block, y0, bottom, [loop for loop in nested if loop.source in block.members], tall)
        self.top = y0 - _HEAD - _PAD - max(over.values(), default=0.0) - 4
        return self._parameters(set(members), bottom) + 26

    def _ranks(
        self, blocks: Sequence[Block], index: dict[str, int], arcs: list[Arc], exits: int, entries: int
    ) -> list[int]:
        """Return columns: block behind block, one reader of parameters a column, data not below such a reader."""
        ranks = [0] * len(index)
        start = 1 if entries else 0
        readers = [box for found in self.sketch.parameters.values() for box, _ in found]
        for block in blocks:
            own = [index[box] for box in block.members]
            local = {number: place for place, number in enumerate(own)}
            pairs = [(local[arc.tail], local[arc.head]) for arc in arcs if arc.tail in local and arc.head in local]
            eager = sorted({local[index[box]] for box in readers if index.get(box) in local})
            while True:
                found = pulled_right(ranks_of(len(own), pairs), pairs)
                clash = next(((a, b) for a in eager for b in eager if a != b and found[a] == found[b]), None)
                if clash is None:
                    break
                a, b = self._earlier(own[clash[0]], own[clash[1]], arcs, index)
                pairs.append((local[a], local[b]))
            taken = {found[a] for a in eager}
            delays = {local[index[loop.delay]] for loop in self.sketch.loops if index.get(loop.delay) in local}
            fed = {head for _, head in pairs}
            for item, rank in enumerate(found):
                if item in delays:
                    found[item] = 0
                elif item not in fed:
                    while rank > 0 and rank in taken and item not in eager:
                        rank -= 1
                    found[item] = rank
            for item, rank in enumerate(found):
                ranks[own[item]] = start + rank
            start += max(found, default=0) + 2
        for gate in range(len(index) - exits - entries, len(index) - entries):
            ranks[gate] = start - 1
        return ranks

    def _earlier(self, a: int, b: int, arcs: list[Arc], index: dict[str, int]) -> tuple[int, int]:
        """Return two items, the one that reads a state first."""
        delays = {index.get(loop.delay) for loop in self.sketch.loops}
        reads = {arc.head for arc in arcs if arc.tail in delays}
        return (b, a) if b in reads and a not in reads else (a, b)

    def _spine(self, index: dict[str, int], arcs: list[Arc], loops: Sequence[Loop]) -> set[int]:
        """Return the items of the longest way from a delay to the last column: they stand on one line."""
        behind: dict[int, list[int]] = {}
        for arc in arcs:
            behind.setdefault(arc.head, []).append(arc.tail)
        delays = {index[loop.delay] for loop in loops}
        pairs = [(arc.tail, arc.head) for arc in arcs]
        length = {number: 1 if number in delays else -(10**6) for number in range(len(index))}
        way: dict[int, int] = {}
        order = ranks_of(len(index), pairs)
        for item in sorted(range(len(index)), key=order.__getitem__):
            for tail in behind.get(item, ()):
                if length[tail] + 1 > length[item]:
                    length[item], way[item] = length[tail] + 1, tail
        if not delays:
            return set()
        item = max(range(len(index)), key=length.__getitem__)
        spine = {item}
        while item in way:
            item = way[item]
            spine.add(item)
        return spine

    def _region(self, block: Block, top: float, bottom: float, loops: Sequence[Loop], tall: float) -> None:
        if not block.members:
            return
        sizes = {box: self.sketch.figures[box].size() for box in block.members}
        left = min(self.places[box][0] - sizes[box][0] / 2 for box in block.members) - _PAD
        right = max(self.places[box][0] + sizes[box][0] / 2 for box in block.members) + _PAD
        for level, loop in enumerate(loops):
            left = min(left, self.places[loop.delay][0] - 38.0 - 15.0 * level - 6)
            source = self.sketch.figures[loop.source].at(loop.source, *self.places[loop.source])
            delay = self.sketch.figures[loop.delay].at(loop.delay, *self.places[loop.delay])
            draw_loop(self.scene, loop, source, delay, y=top - 24 - level * tall, level=level)
        if not block.label:
            return
        upper = top - _HEAD - _PAD - (len(loops) * tall + 4 if loops else 0.0)
        label = f"{block.label} · {f'× {self.T} steps' if block.repeats else 'once'}"
        right = max(right, left + text_width(label, 9) + 26)
        number = len(self.scene.regions)
        middle, height = (upper + bottom) / 2, bottom - upper
        self.scene.regions.append(Region(f"module{number}", (left + right) / 2, middle, right - left, height, "module"))
        # At the top: lines to parameters cross the bottom.
        self.scene.labels.append(Label(left + 12, upper + 13, label, "start", size=9))

    def _parameters(self, members: set[str], bottom: float) -> float:
        """Place the parameters that a row reads below it, each below its first reader; return where they end."""
        mine = [(id, [r for r in readers if r[0] in members]) for id, readers in self.sketch.parameters.items()]
        mine = sorted(((id, found) for id, found in mine if found), key=lambda pair: self.places[pair[1][0][0]][0])
        if not mine:
            return bottom
        figures = [self.sketch.figures[id] for id, _ in mine]
        wanted = [self.places[found[0][0]][0] for _, found in mine]
        widths = [figure.size()[0] for figure in figures]
        gaps = [(a + b) / 2 + 14 for a, b in pairwise(widths)]
        xs = separated(wanted, [1.0] * len(mine), gaps)
        shift = max(0.0, _LEFT - (xs[0] - widths[0] / 2))
        xs = [round(x + shift, 1) for x in xs]
        y = bottom + _PARAMETERS + max(figure.size()[1] for figure in figures) / 2
        taken: dict[str, int] = {}
        for lane, ((id, found), figure, x) in enumerate(zip(mine, figures, xs, strict=True)):
            self.scene.boxes.append(figure.at(id, x, y))
            for number, (box, magnitude) in enumerate(found):
                count = sum(r[0] == box for _, readers in mine for r in readers)
                at = taken.setdefault(box, 0)
                taken[box] = at + 1
                to = self.places[box][0] + (at - (count - 1) / 2) * 16
                start = to if abs(x - to) < figure.size()[0] / 2 - 14 else x
                low = y - figure.size()[1] / 2
                high = self.places[box][1] + self.sketch.figures[box].size()[1] / 2
                middle = bottom + 9 + (lane % 3) * 7
                points = (
                    ((start, low), (to, high))
                    if start == to
                    else ((start, low), (start, middle), (to, middle), (to, high))
                )
                self._edge(f"{id}-{box}-{number}", id, box, points, magnitude)
        return y + max(figure.size()[1] for figure in figures) / 2

    def _edge(
        self,
        id: str,
        tail: str,
        head: str,
        points: Sequence[Point],
        magnitude: float | None,
        label: str = "",
        curved: bool = False,
    ) -> None:
        kind: EdgeKind = "gradient" if magnitude is not None else "value"
        tooltip = f"gradient norm: {short_number(magnitude)}" if magnitude is not None else ""
        self.scene.edges.append(Edge(id, tail, head, tuple(points), kind, magnitude, curved=curved, tooltip=tooltip))

    def _between(self, number: int, start: int, end: int, lane: int) -> None:
        """Draw a line to a row above: out to the right, back in the space between the rows, and in from the left."""
        out, into = self.gates[f"exit{number}"], self.gates[f"entry{number}"]
        x = out[-1][0] + 14 + 8 * lane
        left = min(region.x - region.width / 2 for region in self.scene.regions if region.y < self.tops[start])
        back = min(left, into[0][0]) - 10 - 8 * lane
        y = self.tops[start] - 12 - _LANE * lane
        way = Edge("", "", "", (out[-1], (x, out[-1][1]), (x, y), (back, y), (back, into[0][1]), into[0]))
        self.routes[number] = (*out, *bezier(way)[1:], *into[1:])

    def _finish(self, bottom: float) -> None:
        for name, (x, y) in self.places.items():
            self.scene.boxes.append(self.sketch.figures[name].at(name, x, y))
        for number, line in enumerate(self.sketch.lines):
            route = self.routes[number]
            self._edge(f"line{number}", line.tail, line.head, route, line.magnitude, curved=True)
            if 0 < len(line.label) <= _SHORT:
                self.scene.labels.append(Label(route[0][0] + 5, route[0][1] - 6.5, line.label, "start", size=9))
        right = max(box.x + box.width / 2 for box in self.scene.boxes)
        right = max([right, *(region.x + region.width / 2 for region in self.scene.regions)])
        self.scene.width, self.scene.height = right + _LEFT, bottom
        if self.scene.scale is not None:
            x, y = self.scene.width - LEGEND_WIDTH - 30, bottom - 26 - LEGEND_HEIGHT + 8
            taken = [b for b in self.scene.boxes if b.x + b.width / 2 > x - 16 and b.y + b.height / 2 > y - 10]
            taken_regions = [r for r in self.scene.regions if r.x + r.width / 2 > x and r.y + r.height / 2 > y - 8]
            if taken or taken_regions:
                y = bottom
                self.scene.height += LEGEND_HEIGHT + 10
            self.scene.legend = (x, y)
