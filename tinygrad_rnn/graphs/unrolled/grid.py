"""Layout of the unrolled view: rows, columns, and the lanes between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from ...pictures.scene.curves import Point
from ...pictures.scene.legend import LEGEND_WIDTH
from ...pictures.scene.scene import Rectangle
from ...pictures.scene.text import text_width
from ..model.blocks import Block
from ..model.table import Row
from .parts import Parts, Window

TOP = 80.0  # below the headline
MARGIN = 24.0
ROW_GAP = 52.0
LANE = 13.0
PAD = 13.0  # between the boxes of a step and its border
LINE_GAP = 17.0  # between two lines below the steps
STEP_GAP = 38.0  # between the borders of two steps
CUT_GAP = 106.0
ELISION = 108.0
LEAST = 112.0  # least width of a box whose parameters enter from below
LOSS_GAP = 16.0  # between two losses
BELOW_GAP = 28.0  # between two boxes of parameters
PARAMETERS_WIDTH = 120.0  # least width of a box of parameters


Feed = tuple[int, Row]
"""A box of parameters, by its number, and a row that reads them."""


class Route(NamedTuple):
    """The route of an edge up a column; x is counted from the middle of the column.

    `way` is "straight" (up at `leave`), "bent" (up at `leave`, across above the lower row, up at `enter`), or "lane"
    (out to lane number `lane` on the left, up, and in again).
    """

    way: str
    leave: float
    enter: float
    lane: int = 0


class Grid:
    """The coordinates of everything in the unrolled view.

    Args:
        parts: what is placed.

    Attributes:
        shelves: groups of rows side by side, bottom first.
        routes: (lower row, upper row) to the route of the edges between them.
        feeds: (box, row) to the x (from the column's middle) at which parameters rise straight; None: by a lane.
        lanes: (box, row) pairs connected by a lane to the right of each column, innermost first.
        wide_fed: (box, wide row) pairs connected after the last column, innermost first.
        left, right: from a column's middle to the border of its step.
        x: time to the middle of its column; a time that is not shown, to the middle of the gap.
        breaks: (time before, time after) for each gap that replaces steps, to the x of its middle.
        top, bottom: of the area of steps.
        line_top: y of the first line of parameters of steps.
        stems: number of lines above a box that spans the sequence; parameters reach them around its right end.
        first_left: left border of the first step.
        end: y of the lower end of the lowest row.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.shelves: list[list[Row]] = []
        self.routes: dict[tuple[Row, Row], Route] = {}
        self.feeds: dict[Feed, float | None] = {}
        self.lanes: list[Feed] = []
        self.wide_fed: list[Feed] = []
        self.x: dict[int, float] = {}
        self.breaks: dict[tuple[int, int], float] = {}
        self.left = self.right = self.first_left = 0.0
        self.top = self.bottom = self.line_top = self.end = 0.0
        _size(parts)
        _shelve(self)
        fed = [{parts.table.row_of[reader] for reader in own.readers} for own, _ in parts.parameters]
        steps = [number for number, shelf in enumerate(self.shelves) if shelf[0].role != "wide"]
        above = bool(steps and steps[0])
        self.stems = sum(any(row.role != "wide" for row in rows) for rows in fed) if above else 0
        totals = [total.size[1] + LOSS_GAP for total in parts.totals]
        _stack(self, TOP + (sum(totals) - LOSS_GAP + 48 if totals else 22.0), steps)
        _route(self, [(number, row) for number, rows in enumerate(fed) for row in rows])
        _spread(self)

    @property
    def lane_room(self) -> float:
        """Width of the lanes to the right of a step."""
        return LANE * len(self.lanes) + 6 if self.lanes else 0.0

    def span(self, row: Row | None = None) -> tuple[float, float]:
        """Return the left and the right end of the steps, or of a row that spans the sequence."""
        if not self.parts.shown:
            return MARGIN, MARGIN + 240
        right = self.x[self.parts.shown[-1]] + self.right + self.lane_room
        own = [number for number, feed in enumerate(self.wide_fed, 1) if feed[1] is row]
        more = LANE * (self.stems + own[-1]) + 12 if own else 0
        return self.x[self.parts.shown[0]] - self.left, right + more

    def place(self, block: Block) -> Rectangle | None:
        """Return the rectangle of a block's box; None if it has no box."""
        row, time = self.parts.table.row_of[block], self.parts.table.time(block)
        if row in self.parts.hidden or (time is not None and time not in self.parts.shown):
            return None
        id = f"n{self.parts.table.graph.number[block.nodes[0]]}"
        if time is not None:
            return Rectangle(id, self.x[time] + row.offset, row.y, row.width, row.height)
        left, right = self.span(row)
        return Rectangle(id, (left + right) / 2, row.y, right - left, row.height)

    def hidden_x(self, block: Block) -> float:
        """Return the x of the gap that replaces a block; for a wide one, the x at which the steps begin."""
        time = self.parts.table.time(block)
        return self.first_left if time is None else self.x.get(time, self.first_left)

    def window_span(self, window: Window) -> tuple[float, float]:
        """Return the left and the right border of a window."""
        return self.x[window.first] - self.left - 9, self.x[window.last] + self.right + self.lane_room + 6

    @property
    def borders(self) -> list[float]:
        """The x of the borders between adjacent windows."""
        pairs = [(one, two) for one, two in pairwise(self.parts.windows) if (one.last, two.first) not in self.breaks]
        return [(self.window_span(one)[1] + self.window_span(two)[0]) / 2 for one, two in pairs]

    def mark_x(self, a: float, b: float) -> float:
        """Return the x of a cut on a horizontal line from a to b: between steps, if possible on a window's border."""
        low, high = min(a, b), max(a, b)
        border = next((x for x in self.borders if low < x < high), None)
        ends = [self.x[time] + self.right for time in self.parts.shown if low < self.x[time] + self.right < high]
        begins = [self.x[time] - self.left for time in self.parts.shown if low < self.x[time] - self.left < high]
        left, right = max([low, *ends]), min([high, *begins])
        if border is not None or left >= right:
            return border if border is not None else (a + b) / 2
        return (left + (self.lane_room if ends else 0.0) + right) / 2

    def right_lane(self, number: int) -> float:
        """Return the x of a lane after the last column: lanes of stems come first, then those of wide rows."""
        return self.span()[1] + 10 + LANE * number

    def up(self, low: Row, high: Row, low_x: float, high_x: float) -> list[Point]:
        """Return the points of an edge from the top of a lower row to the bottom of a higher one.

        `low_x` and `high_x` are the middles of their columns; the same one, unless a row is wide.
        """
        route = self.routes[low, high]
        start, end = low.y - low.height / 2, high.y + high.height / 2
        a, b = low_x + route.leave, high_x + route.enter
        if route.way == "straight":
            return [(b, start), (b, end)]
        if route.way == "bent":
            turn = start - 20
            return [(a, start), (a, turn), (b, turn), (b, end)]
        lane = low_x - self.left + 9 + LANE * route.lane
        turn, over = start - 13 - 5 * route.lane, end + 13 + 5 * route.lane
        if high.role == "wide":
            return [(a, start), (a, turn), (lane, turn), (lane, end)]
        return [(a, start), (a, turn), (lane, turn), (lane, over), (b, over), (b, end)]


def width_below(parts: Parts) -> float:
    """Return the width of the parameters and the legend side by side, which is the least width of the steps."""
    boxes = sum(content.size(PARAMETERS_WIDTH)[0] for _, content in parts.parameters)
    return boxes + BELOW_GAP * (len(parts.parameters) - 1) + (LEGEND_WIDTH + 40) * parts.legend


def _size(parts: Parts) -> None:
    """Set the width and height of the boxes of each row."""
    for row in parts.table.rows:
        times = [-1] if row.role == "wide" else [t for t in parts.shown if t in (row.inputs or row.blocks)]
        least = 0.0 if row.role == "input" else LEAST
        sizes = [parts.content.of(row, time).size(least) for time in times] or [(LEAST, 40.0)]
        inside = [parts.interiors[block] for block in row.blocks.values() if block in parts.interiors]
        sizes += [(interior.width, interior.height) for interior in inside]
        row.width = max(width for width, _ in sizes)
        row.height = max(height for _, height in sizes)
        if row.role == "cell":
            row.height = max(row.height, 26.0 + 22.0 * len(row.slots))


def _shelve(grid: Grid) -> None:
    """Put the rows of a level side by side, but each cell and each wide row on a shelf of its own."""
    for level in sorted({row.level for row in grid.parts.table.rows}):
        rows = [row for row in grid.parts.table.rows if row.level == level and row not in grid.parts.hidden]
        side_by_side = [row for row in rows if row.role not in ("cell", "wide")]
        cells = [row for row in rows if row.role == "cell"]
        if side_by_side:
            total = sum(row.width for row in side_by_side) + 16 * (len(side_by_side) - 1)
            at = -total / 2
            for row in side_by_side:
                row.offset = at + row.width / 2
                at += row.width + 16
            grid.shelves.append(side_by_side)
        for number, row in enumerate(cells):
            step = max(cell.width for cell in cells) / 2 + 16
            row.offset = (number - (len(cells) - 1) / 2) * step
            grid.shelves.append([row])
        grid.shelves += [[row] for row in rows if row.role == "wide"]


def _stack(grid: Grid, top: float, steps: Sequence[int]) -> None:
    """Set the y of rows, from the top shelf down; `steps` are the numbers of the shelves that have columns."""
    y = top
    for number in reversed(range(len(grid.shelves))):
        shelf = grid.shelves[number]
        if steps and number == steps[-1]:
            grid.top = y
            y += PAD + 2
        height = max(row.height for row in shelf)
        for row in shelf:
            row.y = y + height / 2
            row.height = height
        y += height
        if steps and number == steps[0]:
            y += 24
            grid.bottom = y
            grid.line_top = y + 26
            y += 4 + (LINE_GAP * grid.stems + 6 if grid.stems else 0)
        y += ROW_GAP if number else 0
    if not steps:
        grid.top, grid.bottom = top, y
    grid.end = y
    if not grid.stems:
        grid.line_top = y + 22


def _route(grid: Grid, fed: Sequence[Feed]) -> None:
    """Choose the routes of edges between rows, then of parameters to rows, and make room for the lanes."""
    lanes = 0
    for low, high in grid.parts.table.pairs:
        route = _way(grid, low, high)
        if route.way == "lane":
            route = route._replace(lane=lanes)
            lanes += 1
        grid.routes[low, high] = route
    rows = [row for shelf in grid.shelves for row in shelf]
    for feed in sorted(fed, key=lambda feed: (rows.index(feed[1]), feed[0])):
        row = feed[1]
        if row.role == "wide":
            if row.y < grid.top:
                grid.wide_fed.append(feed)
            continue
        below = [other for other in rows if other.y > row.y and other.role != "wide"]
        x = row.offset - 0.36 * row.width
        taken = any(other is row for _, other in grid.feeds)
        grid.feeds[feed] = x if _is_clear(x, below) and not taken else None
        if grid.feeds[feed] is None:
            grid.lanes.append(feed)
    narrow = [row for row in rows if row.role != "wide"]
    wide = max((abs(row.offset) + row.width / 2 for row in narrow), default=0.0)
    grid.left = wide + PAD + lanes * LANE
    grid.right = wide + PAD


def _way(grid: Grid, low: Row, high: Row) -> Route:
    """Return the route of an edge from `low` up to `high`, past the boxes between them."""
    if low.role == high.role == "wide":
        return Route("straight", 0, 0)
    between = [row for shelf in grid.shelves for row in shelf if high.y < row.y < low.y and row.role != "wide"]
    lows = sorted((a for a, b in grid.parts.table.pairs if b is high), key=lambda row: row.offset)
    enter = high.offset + (lows.index(low) - (len(lows) - 1) / 2) * min(30.0, 0.6 * high.width / len(lows))
    if "wide" in (low.role, high.role):
        straight = [enter if low.role == "wide" else low.offset]
    else:
        straight = [low.offset] if len(lows) == 1 and abs(low.offset - high.offset) < high.width / 2 - 14 else []
        straight += [enter] if abs(enter - low.offset) < low.width / 2 - 12 else []
    x = next((x for x in straight if _is_clear(x, between)), None)
    if x is not None:
        return Route("straight", x, x)
    if "wide" not in (low.role, high.role) and _is_clear(enter, between):
        return Route("bent", low.offset, enter)
    return Route("lane", low.offset - 0.3 * low.width, high.offset - 0.25 * high.width)


def _is_clear(x: float, rows: Sequence[Row]) -> bool:
    return all(abs(x - row.offset) > row.width / 2 + 6 for row in rows)


def _spread(grid: Grid) -> None:
    """Set the x of each time; together the steps are wide enough for everything below them."""
    shown, table = grid.parts.shown, grid.parts.table
    cut = {time for link in table.blocks.links for time in table.cut_times(link)}
    gaps = [ELISION if table.between(*pair) else CUT_GAP if pair[1] in cut else STEP_GAP for pair in pairwise(shown)]
    wide = len(shown) * (grid.left + grid.right + grid.lane_room) + sum(gaps)
    least = width_below(grid.parts)
    more = min(max(least - wide, 0.0) / len(gaps), 70.0) if gaps else 0.0
    start = _start_width(grid.parts)
    at = MARGIN + start + (STEP_GAP - 8 if start else 0)
    at += max(least - wide - more * len(gaps), 0.0) / 2
    grid.first_left = at
    for time, after, gap in zip_longest(shown, shown[1:], gaps):
        at += grid.left
        grid.x[time] = at
        at += grid.right + grid.lane_room
        if after is not None:
            room = gap + more
            if skipped := table.between(time, after):
                grid.breaks[time, after] = at + room / 2
                grid.x.update((hidden, at + room / 2) for hidden in skipped)
            at += room
    if shown:
        grid.x.update((time, grid.first_left) for time in table.times if time < shown[0])
        grid.x.update((time, at) for time in table.times if time > shown[-1])


def _start_width(parts: Parts) -> float:
    """Return the width of the column of initial states and labels of rows."""
    widths = [0.0]
    for row in parts.table.rows:
        slots = parts.table.first_states(row)
        widths.append(text_width(parts.content.label(row), 9))
        widths += [parts.content.start(row, slots).size()[0]] if slots and not row.backward else []
    return max(widths)
