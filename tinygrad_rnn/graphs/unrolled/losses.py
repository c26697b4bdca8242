"""The losses of the unrolled view: their boxes above the steps, and the lines that lead to them."""

from __future__ import annotations

from collections.abc import Sequence

from ...pictures.scene.scene import Box
from ..model.blocks import Link
from .canvas import Canvas
from .grid import LOSS_GAP, TOP
from .parts import LOSS_LINE


def draw_losses(canvas: Canvas) -> None:
    """Draw boxes and lines."""
    y, totals = TOP, canvas.parts.totals
    for total in totals:
        width, height = total.size
        nodes = [*canvas.blocks.sums[total.number], *(total.merged.nodes if total.merged is not None else ())]
        x = _middle(canvas, width, len(totals) > 1)
        box = canvas.add(total.content.at(f"loss{total.number + 1}", x, y + height / 2, total.size), nodes)
        _lines_to(canvas, box, [(link, canvas.boxes[link.tail]) for link in total.links if link.tail in canvas.boxes])
        y += height + LOSS_GAP


def _middle(canvas: Canvas, width: float, several: bool) -> float:
    """Return the middle of a loss: over the steps, on a column if one is near; of several, after the steps."""
    left, right = canvas.grid.span()
    if several:
        return right + 60 + width / 2
    middle = (left + right) / 2
    columns = [canvas.grid.x[time] for time in canvas.grid.shown]
    nearest = min(columns, key=lambda x: abs(x - middle), default=middle)
    return nearest if abs(nearest - middle) < width / 2 + 24 else middle


def _lines_to(canvas: Canvas, box: Box, links: Sequence[tuple[Link, Box]]) -> None:
    """Draw the lines of terms to a loss: from below where they stand below it, else into its sides."""
    sides: dict[int, list[tuple[Link, Box]]] = {-1: [], 1: []}
    for link, tail in links:
        wide = canvas.row(link.tail).role == "wide"
        if wide or abs(tail.x - box.x) < box.width / 2 - 14:
            x = box.x if wide else tail.x
            canvas.link(link, tail, box, [(x, tail.top), (x, box.bottom)], small=True)
        else:
            sides[-1 if tail.x < box.x else 1].append((link, tail))
    for sign, side in sides.items():
        # The nearest one arrives lowest, so that no line crosses another.
        side.sort(key=lambda pair: abs(pair[1].x - box.x))
        gap = min(LOSS_LINE, (box.height - 12) / max(len(side) - 1, 1))
        for place, (link, tail) in enumerate(side):
            y = box.y + ((len(side) - 1) / 2 - place) * gap
            canvas.link(link, tail, box, [(tail.x, tail.top), (tail.x, y), (box.x + sign * box.width / 2, y)])
