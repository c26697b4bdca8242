"""The shaded areas of the unrolled view, below its boxes: steps, and windows of backpropagation between cuts."""

from __future__ import annotations

from ...pictures.scene.scene import Edge, Region
from ...pictures.scene.text import text_width
from .canvas import Canvas
from .grid import PAD


def draw_regions(canvas: Canvas) -> None:
    """Draw windows and steps below what is there, and dashed borders between windows, open where scissors stand."""
    regions = [*_windows(canvas), *_steps(canvas)]
    canvas.scene.regions[:0] = regions
    grid = canvas.grid
    for number, x in enumerate(grid.borders, 1):
        marks = sorted((box.y - 24, box.y + 52) for box in canvas.scene.boxes if box.kind == "cut" and box.x == x)
        top, pieces = grid.top - 20, []
        for begin, end in [*marks, (grid.bottom + 10, 0.0)]:
            if begin > top:
                pieces.append((top, begin))
            top = end
        for piece, (begin, end) in enumerate(pieces, 1):
            points = ((x, begin), (x, end))
            canvas.scene.edges.append(Edge(f"border{number}_{piece}", "", "", points, "border", arrow=False))


def _windows(canvas: Canvas) -> list[Region]:
    grid, found = canvas.grid, []
    for window in canvas.parts.windows:
        left, right = grid.window_span(window)
        # Lines to a loss cross the top of a window, where its name stands.
        room = grid.left + 9 - 24 if canvas.parts.totals else right - left
        names = (f"{what} {window.number}" for what in ("backprop window", "BPTT window"))
        label = next((name for name in names if text_width(name, 9) < room), f"window {window.number}")
        id = f"window{window.number}"
        found.append(Region.around(id, "window", left, grid.top - 22, right, grid.bottom + 12, label))
    return found


def _steps(canvas: Canvas) -> list[Region]:
    grid, found = canvas.grid, []
    for time in grid.shown:
        tops = [row.y - row.height / 2 for row in grid.table.rows if time in (row.inputs or row.blocks)]
        top = max(min(tops, default=grid.top) - PAD, grid.top)
        left, right = grid.x[time] - grid.left, grid.x[time] + grid.right
        found.append(Region.around(f"t{time + 1}", "step", left, top, right, grid.bottom, f"t = {time + 1}"))
    return found
