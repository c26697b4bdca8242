"""What the parts of the unrolled view share: the graph, its table, the places, and what has been drawn so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ...pictures.scene.scene import Box, Scene
from ..content.rows import RowContent
from ..model.blocks import Block, Blocks, Link
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.table import Row, Table
from .grid import Grid
from .pen import Pen

_SLOTS = 22.0  # between two states of one cell


@dataclass
class Board:
    """One picture in the making.

    Attributes:
        graph, flow: what is drawn.
        blocks, table, content: its boxes, rows, and what stands in the boxes.
        shown: times that have a column.
        pen: draws.
        box: block to its box, once drawn.
        grid: where everything stands, once known.
    """

    graph: Graph
    flow: Flow | None
    blocks: Blocks
    table: Table
    content: RowContent
    shown: list[int]
    pen: Pen
    box: dict[Block, Box] = field(default_factory=dict)
    grid: Grid = field(init=False)

    @property
    def scene(self) -> Scene:
        """What is drawn on."""
        return self.pen.scene

    @cached_property
    def belts(self) -> list[Link]:
        """The links that join two steps."""
        return [link for link in self.blocks.links if self.is_belt(link)]

    def is_belt(self, link: Link) -> bool:
        """Return whether a link joins two steps."""
        if link.tail is None or link.head is None:
            return False
        times = self.table.time(link.tail), self.table.time(link.head)
        return None not in times and times[0] != times[1]

    def ends(self, link: Link) -> tuple[int, int]:
        """Return the times of the ends of a belt, the earlier first."""
        assert link.tail is not None
        assert link.head is not None
        a, b = self.table.time(link.tail), self.table.time(link.head)
        assert a is not None
        assert b is not None
        return (a, b) if a < b else (b, a)

    def magnitude(self, link: Link) -> float | None:
        """Return the gradient of a link, once measured."""
        return self.pen.found.get(("link", link))

    def first_states(self, row: Row) -> list[int]:
        """Return the numbers of the states of a row that come from before its first step."""
        return sorted(slot for other, slot in self.table.starts if other is row)

    def slot_y(self, row: Row, slot: int) -> float:
        """Return the height at which a state runs through a row."""
        return row.y + (slot - (len(row.slots) - 1) / 2) * _SLOTS
