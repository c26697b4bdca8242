"""The canvas of the unrolled view: boxes, edges with their gradients, cuts, and what each loss highlights."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

from ...engine.tape import Node
from ...pictures.scene.curves import Point
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Box, Dot, Edge, EdgeKind, Row, Scale, Scene
from ...pictures.scene.text import plain
from ..content.builder import cut_content
from ..model.blocks import Block, Link
from ..model.graph import Use
from ..model.table import Row as TableRow
from .grid import Grid
from .parameters import ParameterPlan

_APART = 22.0  # between two states of one cell
_ROOM = 24.0  # for a mark at the end of a line


class Canvas:
    """A scene to draw on, with the facts that are known beforehand.

    Args:
        grid: the parts of the picture, and the coordinates of rows and columns.

    Attributes:
        plan: the layout of parameters and their lines.
        norms: norms of the gradients of links, and of pieces of the lines of parameters.
        scene: the picture so far.
        boxes: block to its box, once drawn.
    """

    def __init__(self, grid: Grid) -> None:
        self.parts, self.grid, self.plan = grid.parts, grid, ParameterPlan(grid)
        self.table, self.content = self.parts.table, self.parts.content
        self.graph, self.blocks = self.table.graph, self.table.blocks
        bundles: dict[Hashable, Sequence[Use]] = {link: link.uses for link in self.blocks.links}
        bundles |= {(wire.name, place): uses for wire in self.plan.wires for place, uses in wire.uses.items()}
        self.norms: dict[Hashable, float] = self.parts.flow.joint(bundles)
        self.scene = Scene("", "", scale=Scale.of(self.norms.values()), legend=self.plan.legend)
        self.boxes: dict[Block, Box] = {}
        self._nodes: dict[str, list[Node]] = {}  # id of a box or an edge to the nodes that highlight it
        self._cuts: dict[tuple[float, float, float], Box] = {}
        self._descents = {  # blocks whose states are cut on their way down to another row, and the step that reads them
            (tail, head.step)
            for link, tail, head, _ in self.carried()
            if link.cuts and self.row(head).y > self.row(tail).y
        }

    # -- rows and columns ---------------------------------------------------------------------------------------------

    def row(self, block: Block | None) -> TableRow:
        """Return the row of a block."""
        assert block is not None
        return self.table.row_of[block]

    def carried(self) -> Iterator[tuple[Link, Block, Block, tuple[int, int]]]:
        """Yield the links that join two steps, each with its ends and their times, the earlier first."""
        for link in self.blocks.links:
            times = self.table.ends(link)
            if times is not None and link.tail is not None and link.head is not None:
                yield link, link.tail, link.head, times

    def state_y(self, row: TableRow, slot: int) -> float:
        """Return the y at which a state runs through a row."""
        return row.y + (slot - (len(row.slots) - 1) / 2) * _APART

    # -- boxes and edges ----------------------------------------------------------------------------------------------

    def add(self, box: Box, nodes: Iterable[Node] = ()) -> Box:
        """Draw a box, which any of `nodes` highlights."""
        self.scene.boxes.append(box)
        self._nodes[box.id] = list(nodes)
        return box

    def dot(self, id: str, point: Point, magnitude: float | None, nodes: Iterable[Node]) -> None:
        """Draw a junction."""
        self.scene.dots.append(Dot(id, *point, magnitude))
        self._nodes[id] = list(nodes)

    def edge(
        self,
        tail: Box | None,
        head: Box | None,
        points: Sequence[Point],
        magnitude: float | None,
        nodes: Iterable[Node],
        *,
        kind: EdgeKind | None = None,
        arrow: bool = True,
        curved: bool = False,
        name: str = "",
        tip: str = "",
    ) -> None:
        """Draw an edge, which any of `nodes` highlights; without `tip` the tooltip names its ends and its gradient."""
        ends = tail.id if tail is not None else "", head.id if head is not None else ""
        id, number = name or "-".join(ends), 1
        while id in self._nodes:
            number += 1
            id = f"{name or '-'.join(ends)}-{number}"
        kind = kind or ("value" if magnitude is None else "gradient")
        tip = tip or self._tip(
            " → ".join(_name(box) for box in (tail, head) if box is not None) or name, magnitude, kind
        )
        self.scene.edges.append(Edge(id, *ends, tuple(points), kind, magnitude, arrow, curved, tooltip=tip))
        self._nodes[id] = list(nodes)

    def _tip(self, what: str, magnitude: float | None, kind: EdgeKind) -> str:
        if kind == "cut":
            return f"{what}\ngradient: stops at the cut"
        flow = self.parts.flow
        if magnitude is None:
            return what + ("\ngradient: none" if flow.measured else "")
        warning = flow.warning(magnitude)
        return f"{what}\ngradient norm: {short_number(magnitude)}" + (f"\nwarning: {warning}" if warning else "")

    # -- links and cuts -----------------------------------------------------------------------------------------------

    def link(self, link: Link, tail: Box, head: Box, points: Sequence[Point], *, small: bool = False) -> None:
        """Draw a link, and its cut if it has one: scissors, or a badge with its factor."""
        nodes, magnitude = [node for node, _ in link.uses], self.norms.get(link)
        if not link.cuts:
            self.edge(tail, head, points, magnitude, nodes)
            return
        if self.graph.credit is not None:  # credit is carried forward, so nothing is truncated
            self.edge(tail, head, points, None, [], kind="cut")
            return
        factor = self.factor(link)
        # The mark is on the longest piece of the route, outside the steps.
        at = _piece_to_mark(points)
        (ax, ay), (bx, by) = points[at], points[at + 1]
        upright = ax == bx
        # At the beginning of a way to another row are the marks of the states, with their text.
        middle = by - math.copysign(_ROOM, by - ay) if _turns_off(points) else (ay + by) / 2
        x, y = ((ax + bx) / 2, middle) if upright else (self.grid.mark_x(ax, bx), ay)
        level = len(points) == 2 and tail.y == head.y  # several states of a cell share a mark
        box = self._cut((x, head.y if level else y), factor, link, head, small)
        in_x, in_y = (0.0, box.height / 2) if upright else (_half_chord(box, y), 0.0)
        toward = math.copysign(1.0, by - ay if upright else bx - ax)
        first = [*points[: at + 1], (x - in_x * toward, y - in_y * toward)]
        second = [(x + in_x * toward, y + in_y * toward), *points[at + 1 :]]
        if factor == 0:
            self.edge(tail, box, first, None, [], kind="cut", arrow=False)
            self.edge(box, head, second, None, nodes, kind="cut")
        else:
            self.edge(tail, box, first, None if magnitude is None else magnitude * abs(factor), nodes, arrow=False)
            self.edge(box, head, second, magnitude, nodes)

    def factor(self, link: Link) -> float:
        """Return the factor of the cuts on a link."""
        return math.prod(self.graph.cuts[cut].scale for cut in link.cuts)

    def _cut(self, at: Point, factor: float, link: Link, head: Box, small: bool) -> Box:
        """Return the mark of a cut; states that are cut at the same position share it."""
        key = (round(at[0], 1), round(at[1], 1), factor)
        if key not in self._cuts:
            stops, label = factor == 0, "".join(self.graph.cuts[cut].label for cut in link.cuts[:1])
            content = cut_content(factor, label, _name(head))
            size = content.size() if not stops else (22.0, 22.0) if small else (34.0, 34.0)
            # Three states, or one on its way to another row, would run through the text.
            crowded = len(self.row(link.head).slots) > 2 or (link.tail, link.head and link.head.step) in self._descents
            if stops and not small and at[1] == head.y and not crowded:
                content = replace(content, title="cut", rows=(Row("gradient stops"),))
            id = f"cut{self.graph.number[link.cuts[0]]}"
            again = sum(box.id.partition("_")[0] == id for box in self._cuts.values())
            self._cuts[key] = self.add(content.at(f"{id}_{again + 1}" if again else id, *at, size))
        return self._cuts[key]

    # -- highlighting --------------------------------------------------------------------------------------------

    def light(self) -> None:
        """Record which boxes, edges and junctions the gradient of each loss, and of each term of it, reaches."""
        losses = {f"loss{total.number + 1}": [self.graph.losses[total.number]] for total in self.parts.totals}
        for place in (place for terms in self.blocks.terms for place in terms):
            block = self.blocks.of.get(place[0])
            if block is not None and block in self.boxes:
                losses[self.boxes[block].id] = [place]
        for id, places in losses.items():
            reached = self.graph.reach(places)
            lit = (key for key, nodes in self._nodes.items() if not reached.isdisjoint(nodes))
            self.scene.reach[id] = frozenset((*lit, id))


def _piece_to_mark(points: Sequence[Point]) -> int:
    """Return the number of the piece of a route that gets the mark: the longest, or the way down to another row.

    Such a way begins on the line of a state, which has a mark of its own.
    """
    if _turns_off(points):
        return 1
    return max(range(len(points) - 1), key=lambda n: math.dist(points[n], points[n + 1]))


def _turns_off(points: Sequence[Point]) -> bool:
    """Return whether a route leaves the line of a state between two steps, for another row."""
    return len(points) == 4 and points[0][1] == points[1][1] and abs(points[2][1] - points[1][1]) > 2.5 * _ROOM


def _half_chord(box: Box, y: float) -> float:
    """Return the distance from the middle of a mark with round ends to its border at this y."""
    radius = box.height / 2
    return box.width / 2 - radius + math.sqrt(max(radius**2 - (y - box.y) ** 2, 0.0))


def _name(box: Box) -> str:
    return box.tooltip.partition("\n")[0] or plain(box.title)
