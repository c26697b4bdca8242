"""The shaded areas of the unrolled view, under its boxes: steps, and windows of backpropagation between cuts."""

from __future__ import annotations

from itertools import pairwise

from ...pictures.scene.scene import Edge, Region
from ...pictures.scene.text import text_width
from ..model.blocks import Blocks
from ..model.graph import Graph
from ..model.table import Row, Table
from .canvas import Canvas
from .grid import PAD, Window


def find_windows(graph: Graph, blocks: Blocks, table: Table, shown: list[int]) -> list[Window]:
    """Return the windows of backpropagation that have a column; none if nothing is cut through."""
    cells = [row for row in table.rows if row.role == "cell" and len(row.blocks) > 1]
    closed: dict[int, set[Row]] = {}
    for link in blocks.links:
        if link.head is not None and table.joins_steps(link) and any(graph.cuts[cut].closed for cut in link.cuts):
            closed.setdefault(table.ends(link)[1], set()).add(table.row_of[link.head])
    borders = sorted(time for time, rows in closed.items() if cells and rows.issuperset(cells))
    if not borders:
        return []
    windows = []
    for number, (begin, end) in enumerate(pairwise([table.times[0], *borders, table.times[-1] + 1]), 1):
        inside = [time for time in shown if begin <= time < end]
        if inside:
            windows.append(Window(number, inside[0], inside[-1]))
    return windows


def draw_regions(canvas: Canvas, crossed: bool) -> None:
    """Draw windows and steps.

    Args:
        canvas: the picture.
        crossed: whether lines to a loss cross the tops of the windows, where their names stand.
    """
    grid, regions = canvas.grid, canvas.scene.regions
    middle, height = (grid.top + grid.bottom) / 2, grid.bottom - grid.top
    for window in grid.windows:
        left, right = grid.window_span(window)
        room = grid.left + 9 - 24 if crossed else right - left
        names = (f"{what} {window.number}" for what in ("backprop window", "BPTT window"))
        label = next((name for name in names if text_width(name, 9) < room), f"window {window.number}")
        x, id = (left + right) / 2, f"window{window.number}"
        regions.append(Region(id, x, middle - 5, right - left, height + 34, "window", label))
    for time in grid.shown:
        x = grid.x[time] + (grid.right - grid.left) / 2
        tops = [row.y - row.height / 2 for row in grid.table.rows if time in (row.inputs or row.blocks)]
        top = max(min(tops, default=grid.top) - PAD, grid.top)
        y, tall = (top + grid.bottom) / 2, grid.bottom - top
        regions.append(Region(f"t{time + 1}", x, y, grid.left + grid.right, tall, "step", f"t = {time + 1}"))


def draw_borders(canvas: Canvas) -> None:
    """Draw dashed lines between windows, open where the scissors and their words stand."""
    for number, x in enumerate(canvas.grid.borders, 1):
        marks = sorted((box.y - 24, box.y + 52) for box in canvas.scene.boxes if box.kind == "cut" and box.x == x)
        top, pieces = canvas.grid.top - 20, []
        for begin, end in [*marks, (canvas.grid.bottom + 10, 0.0)]:
            if begin > top:
                pieces.append((top, begin))
            top = end
        for piece, (begin, end) in enumerate(pieces, 1):
            points = ((x, begin), (x, end))
            canvas.scene.edges.append(Edge(f"border{number}_{piece}", "", "", points, "border", arrow=False))
