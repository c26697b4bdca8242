"""States on their way through time: the belts of the unrolled view, with cuts, elisions, and first states."""

from __future__ import annotations

from ...pictures.layout.content import Content
from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Box, Label
from ...pictures.scene.scene import Row as Line
from ..model.blocks import Link
from ..model.table import Row
from .board import Board
from .grid import BELT, CUT_GAP


class Belts:
    """Draws what joins two steps."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def draw(self) -> None:
        """Draw first states and belts."""
        self._draw_starts()
        elided: dict[tuple[Row, tuple[int, int]], Box] = {}
        for link in self.board.belts:
            assert link.tail is not None
            assert link.head is not None
            low, high = self.board.table.row_of[link.tail], self.board.table.row_of[link.head]
            tail, head = self.board.box.get(link.tail), self.board.box.get(link.head)
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
            # A cut on the way to a step that is not shown has no place of its own: the elision counts it.
            closed = any(self.board.graph.cuts[cut].closed for cut in link.cuts)
            nodes = [] if closed and head is None else [node for node, _ in link.uses]
            magnitude = self.board.magnitude(link)
            self.board.pen.edge(a, b, points, magnitude, nodes, kind="cut" if closed else None, arrow=head is not None)

    def _break_at(self, link: Link) -> tuple[int, int] | None:
        early, late = self.board.ends(link)
        return next(((a, b) for a, b in self.board.grid.breaks if a <= early < b and a < late <= b), None)

    def _elision(self, row: Row, between: tuple[int, int]) -> Box:
        times = self.board.table.times
        hidden = times[times.index(between[0]) + 1 : times.index(between[1])]
        inside = [
            link
            for link in self.board.belts
            if between[0] <= self.board.ends(link)[0] and self.board.ends(link)[1] <= between[1]
        ]
        cuts = {
            self.board.ends(link)
            for link in inside
            if link.head is not None and self.board.table.row_of[link.head] is row and link.cuts
        }
        lines = [Line(f"{len(hidden)} step{'s' * (len(hidden) > 1)}")]
        if cuts:
            lines.append(Line(f"{len(cuts)} cut{'s' * (len(cuts) > 1)}"))
        content = Content("elision", "⋯", tuple(lines), f"steps {hidden[0] + 1} to {hidden[-1] + 1} are not shown")
        nodes = [node for time in hidden if time in row.blocks for node in row.blocks[time].nodes]
        name = f"elided{self.board.graph.number[nodes[0]]}"
        return self.board.pen.box(name, content, self.board.grid.breaks[between], row.y, 46, content.size()[1], nodes)

    def _slot_y(self, link: Link, row: Row) -> float:
        assert link.tail is not None
        assert link.place is not None
        slot = link.tail.states.index(link.place) if link.place in link.tail.states else 0
        return self.board.slot_y(row, slot)

    def _belt(self, link: Link, tail: Box, head: Box, low: Row, high: Row) -> None:
        early, late = self.board.ends(link)
        sign = -1 if low.backward else 1
        y = self._slot_y(link, low)
        start = (tail.x + sign * tail.width / 2, y)
        following = [time for time in self.board.shown if time > early]
        if low is high and following and following[0] == late:
            points = [start, (head.x - sign * head.width / 2, y)]
        else:
            points = self._detour(start, link, head, high)
        self.board.pen.passage(tail, head, points, self.board.magnitude(link), link)

    def _detour(self, start: Point, link: Link, head: Box, high: Row) -> list[Point]:
        """Return a way to another row, or over columns between: out, along the gap above the head's row, and in."""
        grid = self.board.grid
        assert link.tail is not None
        assert link.head is not None
        before, behind = self.board.table.time(link.tail), self.board.table.time(link.head)
        assert before is not None
        assert behind is not None
        out = grid.x[before] + grid.right + grid.lane_room + 8
        into = grid.x[behind] - grid.left - 10
        y = high.y - high.height / 2 - 16
        enter = (head.x - head.width / 2, head.y - head.height / 4)
        if abs(out - into) < BELT + CUT_GAP and out <= into + BELT:
            middle = (out + into) / 2
            return [start, (middle, start[1]), (middle, enter[1]), enter]
        return [start, (out, start[1]), (out, y), (into, y), (into, enter[1]), enter]

    def _draw_starts(self) -> None:
        for row in self.board.table.rows:
            slots = self.board.first_states(row)
            if not slots:
                continue
            time = (max if row.backward else min)(row.blocks)
            block = row.blocks[time]
            if block not in self.board.box:
                continue
            content = self.board.content.start(row, slots)
            width, height = content.size()
            head = self.board.box[block]
            sign = -1 if row.backward else 1
            grid = self.board.grid
            edge = (
                grid.x[self.board.shown[-1]] + grid.right + grid.lane_room + 26
                if row.backward
                else grid.first_left - 30
            )
            x = edge - sign * width / 2
            starts = {slot: self.board.table.starts[row, slot] for slot in slots}
            nodes = [value.place[0] for value in starts.values() if isinstance(value, Link) and value.place is not None]
            box = self.board.pen.box(
                f"start{self.board.graph.number[block.nodes[0]]}", content, x, row.y, width, height, nodes
            )
            for slot, value in starts.items():
                y = self.board.slot_y(row, slot)
                points = [(x + sign * width / 2, y), (head.x - sign * head.width / 2, y)]
                if isinstance(value, Link):
                    self.board.pen.passage(box, head, points, self.board.magnitude(value), value)
                else:
                    self.board.pen.edge(box, head, points, None, block.nodes)
                if len(row.slots) > 1:
                    x_label = (points[0][0] + grid.first_left) / 2 if sign > 0 else points[0][0] - 12
                    self.board.pen.scene.labels.append(Label(x_label, y - 7, row.slots[slot], size=9))
