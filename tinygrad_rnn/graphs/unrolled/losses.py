"""The losses of the unrolled view: their boxes above the steps, and the lines that lead to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...pictures.layout.content import Content
from ...pictures.scene.scene import Box
from ..content.rows import RowContent
from ..model.blocks import Block, Blocks, Link
from .canvas import Canvas
from .grid import TOP

_LINE = 10.0  # between two lines that run side by side to a loss
_APART = 16.0  # between two losses


@dataclass
class Total:
    """A loss with a box of its own above the steps.

    Attributes:
        number: of the loss.
        content: what its box shows.
        size: of its box.
        merged: the block outside time that is drawn as one box with it, or None.
        links: that lead to its box.
    """

    number: int
    content: Content
    size: tuple[float, float]
    merged: Block | None
    links: list[Link]


def find_totals(blocks: Blocks, content: RowContent, shown: int) -> list[Total]:
    """Return the losses that get a box of their own above the steps: all but those that are a box of one step.

    Args:
        blocks: of the graph.
        content: what boxes show.
        shown: number of columns.
    """
    numbers = [number for number in range(len(blocks.terms)) if number not in losses_in_steps(blocks).values()]
    found: list[Total] = []
    for number in numbers:
        terms = [blocks.of.get(node) for node, _ in blocks.terms[number]]
        alone = terms[0] if len(terms) == 1 else None
        merged = alone if alone is not None and alone.step is None and alone.kind.role == "loss" else None
        if any(other.merged is merged for other in found):
            merged = None
        links = [link for link in blocks.links if link.loss == number]
        lines = min(len(links), shown)
        made = content.total(number)
        width, height = made.size(104)
        side = lines if len(numbers) > 1 else math.ceil(lines / 2)
        links += [link for link in blocks.links if merged is not None and link.head is merged]
        found.append(Total(number, made, (width, max(height, _LINE * side + 8)), merged, links))
    return found


def losses_in_steps(blocks: Blocks) -> dict[Block, int]:
    """Return the blocks of one step that are a whole loss, each with its number."""
    found: dict[Block, int] = {}
    for number, terms in enumerate(blocks.terms):
        block = blocks.of.get(terms[0][0])
        if not blocks.sums[number] and block is not None and block.step is not None:
            found.setdefault(block, number)
    return found


def height_of(totals: Sequence[Total]) -> float:
    """Return the room that the losses take above the steps."""
    return sum(total.size[1] + _APART for total in totals) - _APART + 48 if totals else 22.0


def draw_losses(canvas: Canvas, totals: Sequence[Total]) -> None:
    """Draw boxes and lines."""
    y = TOP
    for total in totals:
        width, height = total.size
        nodes = [*canvas.blocks.sums[total.number], *(total.merged.nodes if total.merged is not None else ())]
        x = _middle(canvas, width, len(totals) > 1)
        box = canvas.add(total.content.at(f"loss{total.number + 1}", x, y + height / 2, total.size), nodes)
        _lines_to(canvas, box, [(link, canvas.boxes[link.tail]) for link in total.links if link.tail in canvas.boxes])
        y += height + _APART


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
            points = [(x, tail.top), (x, box.bottom)]
            canvas.link(link, tail, box, points, small=True)
        else:
            sides[-1 if tail.x < box.x else 1].append((link, tail))
    for sign, side in sides.items():
        # The nearest one arrives lowest, so that no line crosses another.
        side.sort(key=lambda pair: abs(pair[1].x - box.x))
        gap = min(_LINE, (box.height - 12) / max(len(side) - 1, 1))
        for place, (link, tail) in enumerate(side):
            y = box.y + ((len(side) - 1) / 2 - place) * gap
            canvas.link(
                link, tail, box, [(tail.x, tail.top), (tail.x, y), (box.x + sign * box.width / 2, y)]
            )
