"""The losses of the unrolled view: their boxes above the steps, and the lines that lead to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...pictures.scene.scene import Box
from ..model.blocks import Block, Link
from .board import Board
from .grid import TOP

_LINE = 10.0  # between two lines that run side by side to a loss
_APART = 16.0  # between two losses


class Heads:
    """Draws the losses.

    Attributes:
        board: the picture.
        totals: numbers of the losses that have a box of their own above the steps.
        sizes: of these boxes.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.totals = self._totals()
        self.contents = [board.content.total(number) for number in self.totals]
        self.sizes = self._sizes()

    def _totals(self) -> list[int]:
        """Return which losses get a box of their own above the steps: all but those that are a box of one step."""
        found = []
        for number, terms in enumerate(self.board.blocks.terms):
            place = terms[0]
            block = self.board.blocks.of.get(place[0])
            in_step = not self.board.blocks.sums[number] and block is not None and block.step is not None
            if not in_step:
                found.append(number)
        return found

    def merged(self, block: Block) -> int | None:
        """Return the loss that a block outside time is drawn as one box with."""
        if block.step is not None or block.kind.role != "loss":
            return None
        for number in self.totals:
            if [self.board.blocks.of.get(place[0]) for place in self.board.blocks.terms[number]] == [block]:
                return number
        return None

    def in_step(self, block: Block) -> int | None:
        """Return the loss that a box of one step is."""
        for number, terms in enumerate(self.board.blocks.terms):
            if number not in self.totals and self.board.blocks.of.get(terms[0][0]) is block:
                return number
        return None

    def _sizes(self) -> list[tuple[float, float]]:
        sizes = []
        for number, content in zip(self.totals, self.contents, strict=True):
            lines = min(len(self._terms(number)), len(self.board.shown))
            side = lines if len(self.totals) > 1 else math.ceil(lines / 2)
            width, height = content.size(104)
            sizes.append((width, max(height, _LINE * side + 8)))
        return sizes

    @property
    def height(self) -> float:
        """The room that the losses take above the steps."""
        if not self.totals:
            return 22.0
        return sum(height for _, height in self.sizes) + _APART * (len(self.sizes) - 1) + 48

    def _terms(self, number: int) -> list[Link]:
        return [link for link in self.board.blocks.links if link.loss == number]

    def draw(self) -> None:
        """Draw boxes and lines."""
        board = self.board
        y = TOP
        for content, number, (width, height) in zip(self.contents, self.totals, self.sizes, strict=True):
            nodes = list(board.blocks.sums[number])
            links = self._terms(number)
            for block in board.blocks.blocks:
                if self.merged(block) == number:
                    nodes += block.nodes
                    links += [link for link in board.blocks.links if link.head is block]
            box = board.pen.box(f"loss{number + 1}", content, self._x(width), y + height / 2, width, height, nodes)
            self._lines_to(box, [link for link in links if link.tail in board.box])
            y += height + _APART

    def _x(self, width: float) -> float:
        """Return the middle of a loss: over the steps, on a column if one is near; of several, behind the steps."""
        left, right = self.board.grid.span()
        if len(self.totals) > 1:
            return right + 60 + width / 2
        middle = (left + right) / 2
        columns = [self.board.grid.x[time] for time in self.board.shown]
        nearest = min(columns, key=lambda x: abs(x - middle), default=middle)
        return nearest if abs(nearest - middle) < width / 2 + 24 else middle

    def _lines_to(self, box: Box, links: Sequence[Link]) -> None:
        """Draw the lines of terms to a loss: from below where they stand below it, else into its sides."""
        below, before, behind = [], [], []
        for link in links:
            assert link.tail is not None
            tail = self.board.box[link.tail]
            row = self.board.table.row_of[link.tail]
            if row.role == "wide" or abs(tail.x - box.x) < box.width / 2 - 14:
                below.append((link, tail))
            elif tail.x < box.x:
                before.append((link, tail))
            else:
                behind.append((link, tail))
        for link, tail in below:
            x = tail.x if self.board.table.row_of[link.tail].role != "wide" else box.x  # type: ignore[index]
            points = [(x, tail.y - tail.height / 2), (x, box.y + box.height / 2)]
            self.board.pen.passage(tail, box, points, self.board.magnitude(link), link, small=True)
        for side, sign in ((before, -1), (behind, 1)):
            # The nearest one arrives lowest, so that no line crosses another.
            side.sort(key=lambda pair: abs(pair[1].x - box.x))
            count = len(side)
            for place, (link, tail) in enumerate(side):
                y = box.y + ((count - 1) / 2 - place) * min(_LINE, (box.height - 12) / max(count - 1, 1))
                end = box.x + sign * box.width / 2
                points = [(tail.x, tail.y - tail.height / 2), (tail.x, y), (end, y)]
                self.board.pen.passage(tail, box, points, self.board.magnitude(link), link)
