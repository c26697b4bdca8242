"""The parts of an unrolled picture, without positions: columns, losses, parameters, windows, opened cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ..content.rows import RowContent
from ..model.blocks import Block, Blocks, Link
from ..model.flow import Flow
from ..model.graph import Parameter, Place, Use
from ..model.options import Options
from ..model.table import Row, Table, shown_times
from .interior import open_cells

LOSS_LINE = 10.0
"""Distance between two parallel lines to a loss, in points."""


@dataclass(frozen=True)
class Total:
    """A loss with its own box above the steps.

    Attributes:
        number: of the loss.
        content: of its box.
        size: of its box.
        merged: the block outside time that shares its box, or None.
        links: that lead to its box.
    """

    number: int
    content: Content
    size: tuple[float, float]
    merged: Block | None
    links: list[Link]


@dataclass(eq=False)
class Parameters:
    """Parameters that share a box, and their readers.

    Attributes:
        row: the lowest row that reads them.
        parameters: those in the box.
        links: from them to blocks.
    """

    row: Row
    parameters: list[Parameter] = field(default_factory=list)
    links: dict[Link, None] = field(default_factory=dict)

    @property
    def readers(self) -> list[Block]:
        """The blocks that read them, each once."""
        return list(dict.fromkeys(link.head for link in self.links if link.head is not None))

    def uses(self, blocks: Iterable[Block]) -> dict[Place, list[Use]]:
        """Return the uses of each place in these blocks."""
        wanted = set(blocks)
        found: dict[Place, list[Use]] = {}
        for link in self.links:
            if link.head in wanted and link.place is not None:
                found.setdefault(link.place, []).extend(link.uses)
        return found


class Window(NamedTuple):
    """A window of backpropagation, and its first and last column."""

    number: int
    first: int
    last: int


class Parts:
    """The parts of a picture.

    Args:
        flow: the graph, and its gradient.
        options: `steps` chooses the columns, `depth` 2 opens the cells.

    Attributes:
        table: rows and times.
        content: builder of the contents of boxes.
        shown: times that have a column, in order.
        totals: losses above the steps.
        parameters: those of each box, with its content.
        windows: of backpropagation; empty if no step is cut off.
        interiors: opened cells, laid out; empty: cells are closed.
    """

    def __init__(self, flow: Flow, options: Options) -> None:
        self.flow, self.table = flow, Table(flow.graph)
        self.content = RowContent(flow, self.table)
        opened = options.depth == 2
        # Opened cells are large: without steps=, only the first and the last step are shown.
        self.shown = shown_times(self.table.times, 2 if options.steps is None and opened else options.steps)
        self.interiors = open_cells(self.content, self.shown) if opened else {}
        self.windows = _find_windows(self.table, self.shown)
        self.totals = _find_totals(self.table.blocks, self.content, len(self.shown))
        self.parameters = [
            (own, self.content.parameters(own.row.blocks[max(own.row.blocks)].name, own.parameters))
            for own in _find_parameters(self.table)
        ]

    @property
    def hidden(self) -> set[Row]:
        """The rows that are drawn as one box with a loss."""
        return {self.table.row_of[total.merged] for total in self.totals if total.merged is not None}

    @property
    def legend(self) -> bool:
        """Whether there is a legend."""
        return self.flow.measured or bool(self.flow.graph.cuts)


def _find_totals(blocks: Blocks, content: RowContent, shown: int) -> list[Total]:
    """Return the losses with their own boxes above the steps: all but those that are a block of a step."""
    in_steps = set(losses_in_steps(blocks).values())
    numbers = [number for number in range(len(blocks.terms)) if number not in in_steps]
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
        found.append(Total(number, made, (width, max(height, LOSS_LINE * side + 8)), merged, links))
    return found


def losses_in_steps(blocks: Blocks) -> dict[Block, int]:
    """Return the blocks of steps that are total losses, each with the number of the loss."""
    found: dict[Block, int] = {}
    for number, terms in enumerate(blocks.terms):
        block = blocks.of.get(terms[0][0])
        if not blocks.sums[number] and block is not None and block.step is not None:
            found.setdefault(block, number)
    return found


def _find_parameters(table: Table) -> list[Parameters]:
    """Return the parameters of a picture, in a box for each lowest row that reads some of them."""
    graph, blocks = table.graph, table.blocks
    named = {parameter.node: parameter for parameter in graph.parameters}
    starts = {value for value in table.starts.values() if isinstance(value, Link)}
    home: dict[Node, Parameters] = {}
    found: dict[Row, Parameters] = {}
    links = [
        (table.rows.index(table.row_of[link.head]), link, link.place[0])
        for link in blocks.links
        if link.tail is None and link.head is not None and link.place is not None and link not in starts
    ]
    for number, link, node in sorted(links, key=lambda item: item[0]):
        row = table.rows[number]
        for leaf in blocks.flow.leaves_of(node):
            if leaf not in home:
                home[leaf] = found.setdefault(row, Parameters(row))
                home[leaf].parameters.append(named[leaf])
            home[leaf].links[link] = None
    for own in found.values():
        own.parameters.sort(key=lambda parameter: graph.number[parameter.node])
    return list(found.values())


def _find_windows(table: Table, shown: Sequence[int]) -> list[Window]:
    """Return the windows of backpropagation that have a column."""
    cells = [row for row in table.rows if row.role == "cell" and len(row.blocks) > 1]
    closed: dict[int, set[Row]] = {}
    for link in table.blocks.links:
        for time in table.cut_times(link, closed=True):
            assert link.head is not None
            closed.setdefault(time, set()).add(table.row_of[link.head])
    borders = sorted(time for time, rows in closed.items() if cells and rows.issuperset(cells))
    if not borders or table.graph.credit is not None:
        return []
    windows = []
    for number, (begin, end) in enumerate(pairwise([table.times[0], *borders, table.times[-1] + 1]), 1):
        inside = [time for time in shown if begin <= time < end]
        if inside:
            windows.append(Window(number, inside[0], inside[-1]))
    return windows
