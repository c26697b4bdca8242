"""What a policy carries forward, in the unrolled view: a second line beside the states of the lowest cell."""

from __future__ import annotations

from itertools import pairwise

from ...pictures.scene.scene import Box, Label
from ..model.credit import Credit
from .canvas import Canvas

_BELOW = 14.0  # the states, in points


def draw_influence(canvas: Canvas, credit: Credit) -> None:
    """Draw a line from step to step that says how many numbers it carries."""
    cells = [row for row in canvas.table.rows if row.role == "cell" and len(row.blocks) > 1]
    if not cells:
        return
    row, shown = cells[0], [time for time in canvas.grid.shown if time in cells[0].blocks]
    y = canvas.state_y(row, len(row.slots) - 1) + _BELOW
    elisions = {box.x: box for box in canvas.scene.boxes if box.kind == "elision" and box.y == row.y}
    for early, late in pairwise(shown):
        tail, head = canvas.boxes[row.blocks[early]], canvas.boxes[row.blocks[late]]
        between = elisions.get(canvas.grid.breaks.get((early, late), 0.0))
        ends = [(tail, head, early)] if between is None else [(tail, between, early), (between, head, late - 1)]
        for a, b, step in ends:
            _draw_piece(canvas, credit, (a, b), y, step)


def _draw_piece(canvas: Canvas, credit: Credit, ends: tuple[Box, Box], y: float, step: int) -> None:
    """Draw a piece of the line: what is carried on from a step; the losses after it light it."""
    tail, head = ends
    nodes = [node for block, box in canvas.boxes.items() if box is head for node in block.nodes]
    points = [(tail.right, y), (head.left, y)]
    tip = "\n".join(credit.facts(step))
    canvas.edge(tail, head, points, None, nodes, kind="influence", arrow=head.kind != "elision", tip=tip)
    if "elision" not in (tail.kind, head.kind):
        x, text = canvas.grid.mark_x(tail.right, head.left), f"{credit.symbol}: {credit.sizes[step]:,} numbers"
        canvas.scene.labels.append(Label(x, y + 9, text, size=8))
