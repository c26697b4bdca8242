"""The unrolled view: time from left to right, one column for each step.

Inputs stand at the bottom of a column, losses at its top, layers between them as rows; the states run through the rows
as straight belts. A parameter is drawn once, below, on a bus that leads to every step: the line to a step is as thick
as the gradient that this step adds, the bus as thick as what has come together so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from .buses import find_buses, plan_buses
from .curves import Point
from .faces import Face, Faces
from .flow import Flow
from .grid import BELT, CUT_GAP, ELISION, MARGIN, PAD, TOP, Grid, make_grid
from .groups import Group, Link, find_groups
from .options import Options
from .pen import Pen
from .read import Story
from .scene import Box, Edge, Label, Region, Scene
from .scene import Row as Line
from .table import Row, Table, make_table, shown_times
from .text import text_width

_LINE = 10.0  # between two lines that run side by side to a loss


def unrolled(story: Story, flow: Flow | None, options: Options) -> Scene:
    """Return the unrolled view of a recurrent graph; steps are counted from 1.

    Args:
        story: the graph.
        flow: the gradient to draw, or None.
        options: `steps` chooses the columns, `title` and `note` are set above.

    Raises:
        DrawingError: if `options.steps` names a step that does not exist.
    """
    return _Unrolled(story, flow, options).scene()


class _Unrolled:
    def __init__(self, story: Story, flow: Flow | None, options: Options) -> None:
        self.story, self.flow, self.options = story, flow, options
        self.groups = find_groups(story)
        self.table: Table = make_table(story, self.groups)
        self.faces = Faces(story, self.groups, self.table, flow)
        self.shown = shown_times(self.table.times, options.steps)
        self.belts = [link for link in self.groups.links if self._is_belt(link)]
        self.buses = find_buses(story, self.groups, self.table)
        self.totals = self._totals()
        gaps = self._gaps()
        fed = [{self.table.row_of[head] for head in bus.heads} for bus in self.buses]
        merged = [row for row in self.table.rows if row.role == "wide" and self._merged(row.group) is not None]
        self.grid: Grid = make_grid(self.faces, self.shown, merged, fed, gaps, self._start_width(), self._head_height())
        self.pen = Pen(Scene("", ""), story, flow)
        self.pen.lane_room = self.grid.lane_room
        self.box: dict[Group, Box] = {}

    # -- what there is -------------------------------------------------------------------------------------------------

    def _is_belt(self, link: Link) -> bool:
        """Return whether a link joins two steps."""
        if link.tail is None or link.head is None:
            return False
        times = self.table.time(link.tail), self.table.time(link.head)
        return None not in times and times[0] != times[1]

    def _totals(self) -> list[int]:
        """Return which losses get a box of their own above the steps: all but those that are a box of one step."""
        found = []
        for number, terms in enumerate(self.groups.terms):
            place = terms[0]
            group = self.groups.of.get(place[0])
            in_step = not self.groups.sums[number] and group is not None and group.step is not None
            if not in_step:
                found.append(number)
        return found

    def _merged(self, group: Group) -> int | None:
        """Return the loss that a group outside time is drawn as one box with."""
        if group.step is not None or group.kind.role != "loss":
            return None
        for number in self.totals:
            if [self.groups.of.get(place[0]) for place in self.groups.terms[number]] == [group]:
                return number
        return None

    def _gaps(self) -> dict[tuple[int, int], float]:
        gaps: dict[tuple[int, int], float] = {}
        for before, behind in pairwise(self.shown):
            hidden = self.table.times.index(behind) - self.table.times.index(before) - 1
            marked = any(link.cuts and set(self._ends(link)) == {before, behind} for link in self.belts)
            gaps[before, behind] = ELISION if hidden else CUT_GAP if marked else BELT
        return gaps

    def _ends(self, link: Link) -> tuple[int, int]:
        """Return the times of the ends of a belt, the earlier first."""
        assert link.tail is not None and link.head is not None
        a, b = self.table.time(link.tail), self.table.time(link.head)
        assert a is not None and b is not None
        return (a, b) if a < b else (b, a)

    def _start_width(self) -> float:
        widths = [0.0]
        for row in self.table.rows:
            label = self._row_label(row)
            if label:
                widths.append(text_width(label, 9))
            slots = self._start_slots(row)
            if slots and not row.backward:
                widths.append(self.faces.start(row, slots).size()[0])
        return max(widths)

    def _start_slots(self, row: Row) -> list[int]:
        return sorted(slot for other, slot in self.table.starts if other is row)

    def _row_label(self, row: Row) -> str:
        if row.role not in ("cell", "layer"):
            return ""
        group = next(iter(row.groups.values()))
        name = ".".join(group.kind.scope)
        made = self.faces.maker(row) if row.role == "cell" else ""
        return " · ".join(part for part in (name, made, "backward" if row.backward else "") if part)

    def _head_height(self) -> float:
        if not self.totals:
            return 22.0
        self.heads = [self.faces.total(number) for number in self.totals]
        sizes = [face.size(104) for face in self.heads]
        count = len(self.shown)
        lines = [sum(1 for _ in self._terms(number)) for number in self.totals]
        half = 1 if len(self.totals) > 1 else 2
        heights = [
            max(size[1], _LINE * math.ceil(min(n, count) / half) + 8) for size, n in zip(sizes, lines, strict=True)
        ]
        self.head_sizes = [(size[0], height) for size, height in zip(sizes, heights, strict=True)]
        return sum(heights) + 16 * (len(heights) - 1) + 48

    def _terms(self, number: int) -> Iterable[Link]:
        return (link for link in self.groups.links if link.loss == number)

    # -- the picture ---------------------------------------------------------------------------------------------------

    def scene(self) -> Scene:
        """Return the picture."""
        self._draw_regions()
        self._draw_boxes()
        harness = plan_buses(self.pen, self.grid, self.table, self.buses, self.box)
        self._measure()
        harness.draw()
        self._draw_ups()
        self._draw_belts()
        self._draw_borders()
        self._draw_totals()
        scene = self.pen.scene
        self._finish(scene, harness.bottom, harness.right)
        return scene

    def _measure(self) -> None:
        self.pen.want({("link", link): link.uses for link in self.groups.links})
        self.pen.measure()

    def _magnitude(self, link: Link) -> float | None:
        return self.pen.found.get(("link", link))

    def _draw_regions(self) -> None:
        grid, scene = self.grid, self.pen.scene
        middle, height = (grid.top + grid.bottom) / 2, grid.bottom - grid.top
        windows: list[tuple[float, float]] = []
        shown = self._windows()
        for number, (first, last) in shown:
            left, right = grid.x[first] - grid.left - 9, grid.x[last] + grid.right + grid.lane_room + 6
            windows.append((left, right))
            room = grid.left + 9 - 24 if self.totals else right - left
            names = (f"{what} {number}" for what in ("backprop window", "BPTT window"))
            label = next((name for name in names if text_width(name, 9) < room), f"window {number}")
            x, w = (left + right) / 2, right - left
            scene.regions.append(Region(f"window{number}", x, middle - 5, w, height + 34, "window", label))
        for (left, (_, last)), (right, (first, _)) in pairwise(zip(windows, (ends for _, ends in shown), strict=True)):
            if (last, first) not in grid.breaks:
                self.pen.borders.append((left[1] + right[0]) / 2)
        for time in self.shown:
            x = grid.x[time] + (grid.right - grid.left) / 2
            tops = [row.y - row.height / 2 for row in self.table.rows if time in (row.inputs or row.groups)]
            top = max(min(tops, default=grid.top) - PAD, grid.top)
            y, tall = (top + grid.bottom) / 2, grid.bottom - top
            region = Region(f"t{time + 1}", x, y, grid.left + grid.right, tall, "step", f"t = {time + 1}")
            scene.regions.append(region)

    def _windows(self) -> list[tuple[int, tuple[int, int]]]:
        """Return the windows of backpropagation: (number, (first, last shown time)); none if nothing is cut right through."""
        cells = [row for row in self.table.rows if row.role == "cell" and len(row.groups) > 1]
        closed: dict[int, set[Row]] = {}
        for link in self.belts:
            assert link.head is not None
            if any(self.story.cuts[cut].closed for cut in link.cuts):
                closed.setdefault(self._ends(link)[1], set()).add(self.table.row_of[link.head])
        borders = sorted(time for time, rows in closed.items() if cells and rows.issuperset(cells))
        if not borders:
            return []
        times = self.table.times
        windows = []
        for number, (begin, end) in enumerate(pairwise([times[0], *borders, times[-1] + 1]), 1):
            inside = [time for time in self.shown if begin <= time < end]
            if inside:
                windows.append((number, (inside[0], inside[-1])))
        return windows

    def _draw_boxes(self) -> None:
        grid = self.grid
        for row in grid.table.rows:
            if row.role == "wide":
                if self._merged(row.group) is None:
                    left, right = self.grid.span(row)
                    self._box(row.group, self.faces.of(row, -1), (left + right) / 2, row.y, right - left, row.height)
                continue
            for time in self.shown:
                if row.role == "input" and time in row.inputs:
                    x = grid.x[time] + row.offset
                    name = f"x{row.key[1]}_{time + 1}"  # type: ignore[index]
                    self.pen.box(name, self.faces.of(row, time), x, row.y, row.width, row.height)
                elif time in row.groups:
                    group = row.groups[time]
                    face = self.faces.of(row, time)
                    total = self._in_step(group)
                    if total is not None:
                        face = self.faces.total(total)
                    self._box(group, face, grid.x[time] + row.offset, row.y, row.width, row.height)

    def _in_step(self, group: Group) -> int | None:
        """Return the loss that a box of one step is."""
        for number, terms in enumerate(self.groups.terms):
            if number not in self.totals and self.groups.of.get(terms[0][0]) is group:
                return number
        return None

    def _box(self, group: Group, face: Face, x: float, y: float, width: float, height: float) -> None:
        name = f"n{self.story.number[group.nodes[0]]}"
        self.box[group] = self.pen.box(name, face, x, y, width, height, group.nodes)

    # -- edges within a step -------------------------------------------------------------------------------------------

    def _draw_ups(self) -> None:
        for link in self.groups.links:
            if link.tail is None or link.head is None or self._is_belt(link):
                continue
            low, high = self.table.row_of[link.tail], self.table.row_of[link.head]
            if low is high or (low, high) not in self.grid.routes:
                continue
            merged = self._merged(link.head)
            if merged is not None or link.tail not in self.box or link.head not in self.box:
                continue
            self._up(link, low, high)
        for low, high in self.table.pairs:
            if low.role == "input":
                for time in self.shown:
                    if time in low.inputs and time in high.groups and high.groups[time] in self.box:
                        tail = self.pen.by_id[f"x{low.key[1]}_{time + 1}"]  # type: ignore[index]
                        head = self.box[high.groups[time]]
                        points = self.grid.up(low, high, self.grid.x[time], self.grid.x[time])
                        self.pen.edge(tail, head, points, None, high.groups[time].nodes)

    def _up(self, link: Link, low: Row, high: Row) -> None:
        assert link.tail is not None and link.head is not None
        times = self.table.time(link.tail), self.table.time(link.head)
        middle = [self.grid.x[time] if time is not None else None for time in times]
        spot = next((x for x in middle if x is not None), (sum(self.grid.span()) / 2))
        points = self.grid.up(low, high, spot, spot)
        self.pen.passage(self.box[link.tail], self.box[link.head], points, self._magnitude(link), link, small=True)

    # -- edges between steps -------------------------------------------------------------------------------------------

    def _draw_belts(self) -> None:
        self._draw_starts()
        elided: dict[tuple[Row, tuple[int, int]], Box] = {}
        for link in self.belts:
            assert link.tail is not None and link.head is not None
            low, high = self.table.row_of[link.tail], self.table.row_of[link.head]
            tail, head = self.box.get(link.tail), self.box.get(link.head)
            if tail is None and head is None:
                continue
            if tail is not None and head is not None:
                self._belt(link, tail, head, low, high)
                continue
            between = self._break_at(link)
            if between is None or low is not high:
                continue
            box = elided.get((low, between)) or self._elision(low, between)
            elided[low, between] = box
            y = self._slot_y(link, low)
            a, b = (tail or box), (head or box)
            sign = -1 if low.backward else 1
            points = [(a.x + sign * a.width / 2, y), (b.x - sign * b.width / 2, y)]
            self.pen.passage(a, b, points, self._magnitude(link), link, arrow=head is not None)

    def _break_at(self, link: Link) -> tuple[int, int] | None:
        early, late = self._ends(link)
        return next(((a, b) for a, b in self.grid.breaks if a <= early < b and a < late <= b), None)

    def _elision(self, row: Row, between: tuple[int, int]) -> Box:
        times = self.table.times
        hidden = times[times.index(between[0]) + 1 : times.index(between[1])]
        inside = [
            link for link in self.belts if between[0] <= self._ends(link)[0] and self._ends(link)[1] <= between[1]
        ]
        cuts = {
            self._ends(link)
            for link in inside
            if link.head is not None and self.table.row_of[link.head] is row and link.cuts
        }
        lines = [Line(f"{len(hidden)} step{'s' * (len(hidden) > 1)}")]
        if cuts:
            lines.append(Line(f"{len(cuts)} cut{'s' * (len(cuts) > 1)}"))
        face = Face("elision", "⋯", tuple(lines), f"steps {hidden[0] + 1} to {hidden[-1] + 1} are not shown")
        nodes = [node for time in hidden if time in row.groups for node in row.groups[time].nodes]
        name = f"elided{self.story.number[nodes[0]]}"
        return self.pen.box(name, face, self.grid.breaks[between], row.y, 46, face.size()[1], nodes)

    def _slot_y(self, link: Link, row: Row) -> float:
        assert link.tail is not None and link.place is not None
        slot = link.tail.states.index(link.place) if link.place in link.tail.states else 0
        return slot_y(row, slot)

    def _belt(self, link: Link, tail: Box, head: Box, low: Row, high: Row) -> None:
        early, late = self._ends(link)
        sign = 1 if tail.x < head.x else -1
        y = self._slot_y(link, low)
        start = (tail.x + sign * tail.width / 2, y)
        following = [time for time in self.shown if time > early]
        if low is high and following and following[0] == late:
            points = [start, (head.x - sign * head.width / 2, y)]
        else:
            points = self._detour(start, tail, head, high)
        self.pen.passage(tail, head, points, self._magnitude(link), link)

    def _detour(self, start: Point, tail: Box, head: Box, high: Row) -> list[Point]:
        """Return a way to another row, or over columns between: out, along the gap above the head's row, and in."""
        grid = self.grid
        out = tail.x + grid.right + grid.lane_room + 8
        into = head.x - grid.left - 10
        y = high.y - high.height / 2 - 16
        enter = (head.x - head.width / 2, head.y - head.height / 4)
        if abs(out - into) < BELT + CUT_GAP and out <= into + BELT:
            middle = (out + into) / 2
            return [start, (middle, start[1]), (middle, enter[1]), enter]
        return [start, (out, start[1]), (out, y), (into, y), (into, enter[1]), enter]

    def _draw_borders(self) -> None:
        """Draw dashed lines between windows, open where the scissors and their words stand."""
        scene = self.pen.scene
        for number, x in enumerate(self.pen.borders, 1):
            marks = sorted((box.y - 24, box.y + 52) for box in scene.boxes if box.kind == "cut" and box.x == x)
            top, pieces = self.grid.top - 20, []
            for begin, end in [*marks, (self.grid.bottom + 10, 0.0)]:
                if begin > top:
                    pieces.append((top, begin))
                top = end
            for piece, (begin, end) in enumerate(pieces, 1):
                points = ((x, begin), (x, end))
                scene.edges.append(Edge(f"border{number}_{piece}", "", "", points, "border", arrow=False))

    def _draw_starts(self) -> None:
        for row in self.table.rows:
            slots = self._start_slots(row)
            if not slots:
                continue
            time = (max if row.backward else min)(row.groups)
            group = row.groups[time]
            if group not in self.box:
                continue
            face = self.faces.start(row, slots)
            width, height = face.size()
            head = self.box[group]
            sign = -1 if row.backward else 1
            grid = self.grid
            edge = grid.x[self.shown[-1]] + grid.right + grid.lane_room + 26 if row.backward else grid.first_left - 30
            x = edge - sign * width / 2
            starts = {slot: self.table.starts[row, slot] for slot in slots}
            nodes = [value.place[0] for value in starts.values() if isinstance(value, Link) and value.place is not None]
            box = self.pen.box(f"start{self.story.number[group.nodes[0]]}", face, x, row.y, width, height, nodes)
            for slot, value in starts.items():
                y = slot_y(row, slot)
                points = [(x + sign * width / 2, y), (head.x - sign * head.width / 2, y)]
                if isinstance(value, Link):
                    self.pen.passage(box, head, points, self._magnitude(value), value)
                else:
                    self.pen.edge(box, head, points, None, group.nodes)
                if len(row.slots) > 1:
                    x_label = (points[0][0] + grid.first_left) / 2 if sign > 0 else points[0][0] - 12
                    self.pen.scene.labels.append(Label(x_label, y - 7, row.slots[slot], size=9))

    # -- losses --------------------------------------------------------------------------------------------------------

    def _draw_totals(self) -> None:
        left, right = self.grid.span()
        y = TOP
        for position, number in enumerate(self.totals):
            width, height = self.head_sizes[position]
            several = len(self.totals) > 1
            x = right + 60 + width / 2 if several else (left + right) / 2
            nodes = [node for node in self.groups.sums[number]]
            merged = [g for place in self.groups.terms[number] if (g := self.groups.of.get(place[0])) is not None]
            if len(merged) == 1 and self._merged(merged[0]) == number:
                nodes += merged[0].nodes
            box = self.pen.box(f"loss{number + 1}", self.heads[position], x, y + height / 2, width, height, nodes)
            links = list(self._terms(number))
            links += [link for link in self.groups.links if link.head is not None and self._merged(link.head) == number]
            self._lines_to(box, [link for link in links if link.tail in self.box])
            y += height + 16

    def _lines_to(self, box: Box, links: Sequence[Link]) -> None:
        """Draw the lines of terms to a loss: from below where they stand below it, else into its sides."""
        below, before, behind = [], [], []
        for link in links:
            assert link.tail is not None
            tail = self.box[link.tail]
            row = self.table.row_of[link.tail]
            if row.role == "wide" or abs(tail.x - box.x) < box.width / 2 - 14:
                below.append((link, tail))
            elif tail.x < box.x:
                before.append((link, tail))
            else:
                behind.append((link, tail))
        for link, tail in below:
            x = tail.x if self.table.row_of[link.tail].role != "wide" else box.x  # type: ignore[index]
            points = [(x, tail.y - tail.height / 2), (x, box.y + box.height / 2)]
            self.pen.passage(tail, box, points, self._magnitude(link), link, small=True)
        for side, sign in ((before, -1), (behind, 1)):
            # The nearest one arrives lowest, so that no line crosses another.
            side.sort(key=lambda pair: abs(pair[1].x - box.x))
            count = len(side)
            for place, (link, tail) in enumerate(side):
                y = box.y + ((count - 1) / 2 - place) * min(_LINE, (box.height - 12) / max(count - 1, 1))
                end = box.x + sign * box.width / 2
                points = [(tail.x, tail.y - tail.height / 2), (tail.x, y), (end, y)]
                self.pen.passage(tail, box, points, self._magnitude(link), link)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _finish(self, scene: Scene, bottom: float, width: float) -> None:
        for row in self.table.rows:
            label = self._row_label(row)
            if not label:
                continue
            slots = self._start_slots(row)
            y = row.y
            if slots and not row.backward:
                y -= self.faces.start(row, slots).size()[1] / 2 + 9
            scene.labels.append(Label(MARGIN, y, label, "start", 9.0))
        scene.title = self.options.title or self._title()
        scene.subtitle = " · ".join(self._facts())
        right = max([width, *(box.x + box.width / 2 for box in scene.boxes)])
        right = max([right, *(region.x + region.width / 2 for region in scene.regions)])
        wide = max(text_width(scene.title, 19, True), text_width(scene.subtitle, 11))
        scene.width = max(right, MARGIN + wide) + MARGIN
        scene.height = bottom + MARGIN
        self.pen.light(
            {
                **{f"loss{number + 1}": [self.story.losses[number]] for number in self.totals},
                **{
                    self.box[group].id: [place]
                    for terms in self.groups.terms
                    for place in terms
                    if (group := self.groups.of.get(place[0])) in self.box and group is not None
                },
            }
        )

    def _title(self) -> str:
        cells = [self.faces.maker(row) for row in self.table.rows if row.role == "cell"]
        named = [name for name in dict.fromkeys(cells) if name]
        counted = [f"{cells.count(name)} × {name}" if cells.count(name) > 1 else name for name in named]
        return f"{' and '.join(counted)}, unrolled" if counted else "Unrolled graph"

    def _facts(self) -> list[str]:
        times = self.table.times
        hidden = len(times) - len(self.shown)
        facts = [f"{len(times)} step{'s' * (len(times) != 1)}" + (f", {hidden} not shown" if hidden else "")]
        states = [place for group in self.groups.groups for place in group.states]
        if states:
            shape = states[0][0].specs[states[0][1]].shape
            sizes = {place[0].specs[place[1]].shape[-1:] for place in states}
            if len(shape) == 2:
                facts += [f"batch {shape[0]}"] + ([f"hidden {shape[1]}"] if len(sizes) == 1 else [])
        count = sum(parameter.size for parameter in self.story.parameters)
        facts.append(f"{count:,} parameters")
        if self.options.note:
            facts.append(self.options.note)
        return facts


def slot_y(row: Row, slot: int) -> float:
    """Return the height at which a state runs through a row."""
    return row.y + (slot - (len(row.slots) - 1) / 2) * 22.0
