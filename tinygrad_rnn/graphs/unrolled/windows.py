"""The areas behind the boxes of the unrolled view: steps, and windows of backpropagation between cuts."""

from __future__ import annotations

from itertools import pairwise

from ...pictures.scene.scene import Edge, Region
from ...pictures.scene.text import text_width
from ..model.table import Row
from .board import Board
from .grid import PAD


def draw_regions(board: Board, crossed: bool) -> None:
    """Draw windows and steps, and note where a border between two windows is to be drawn.

    Args:
        board: the picture.
        crossed: whether lines to a loss cross the tops of the windows, where their names stand.
    """
    grid, scene = board.grid, board.pen.scene
    middle, height = (grid.top + grid.bottom) / 2, grid.bottom - grid.top
    windows: list[tuple[float, float]] = []
    shown = _windows(board)
    for number, (first, last) in shown:
        left, right = grid.x[first] - grid.left - 9, grid.x[last] + grid.right + grid.lane_room + 6
        windows.append((left, right))
        room = grid.left + 9 - 24 if crossed else right - left
        names = (f"{what} {number}" for what in ("backprop window", "BPTT window"))
        label = next((name for name in names if text_width(name, 9) < room), f"window {number}")
        x, w = (left + right) / 2, right - left
        scene.regions.append(Region(f"window{number}", x, middle - 5, w, height + 34, "window", label))
    ends = [between for _, between in shown]
    for (one, (_, last)), (two, (first, _)) in pairwise(zip(windows, ends, strict=True)):
        if (last, first) not in grid.breaks:
            board.pen.borders.append((one[1] + two[0]) / 2)
    for time in board.shown:
        x = grid.x[time] + (grid.right - grid.left) / 2
        tops = [row.y - row.height / 2 for row in board.table.rows if time in (row.inputs or row.blocks)]
        top = max(min(tops, default=grid.top) - PAD, grid.top)
        y, tall = (top + grid.bottom) / 2, grid.bottom - top
        region = Region(f"t{time + 1}", x, y, grid.left + grid.right, tall, "step", f"t = {time + 1}")
        scene.regions.append(region)


def _windows(board: Board) -> list[tuple[int, tuple[int, int]]]:
    """Return (number, (first, last shown time)) of the windows of backpropagation; none if nothing is cut through."""
    cells = [row for row in board.table.rows if row.role == "cell" and len(row.blocks) > 1]
    closed: dict[int, set[Row]] = {}
    for link in board.belts:
        assert link.head is not None
        if any(board.graph.cuts[cut].closed for cut in link.cuts):
            closed.setdefault(board.ends(link)[1], set()).add(board.table.row_of[link.head])
    borders = sorted(time for time, rows in closed.items() if cells and rows.issuperset(cells))
    if not borders:
        return []
    times = board.table.times
    windows = []
    for number, (begin, end) in enumerate(pairwise([times[0], *borders, times[-1] + 1]), 1):
        inside = [time for time in board.shown if begin <= time < end]
        if inside:
            windows.append((number, (inside[0], inside[-1])))
    return windows


def draw_borders(board: Board) -> None:
    """Draw dashed lines between windows, open where the scissors and their words stand."""
    scene = board.pen.scene
    for number, x in enumerate(board.pen.borders, 1):
        marks = sorted((box.y - 24, box.y + 52) for box in scene.boxes if box.kind == "cut" and box.x == x)
        top, pieces = board.grid.top - 20, []
        for begin, end in [*marks, (board.grid.bottom + 10, 0.0)]:
            if begin > top:
                pieces.append((top, begin))
            top = end
        for piece, (begin, end) in enumerate(pieces, 1):
            points = ((x, begin), (x, end))
            scene.edges.append(Edge(f"border{number}_{piece}", "", "", points, "border", arrow=False))
