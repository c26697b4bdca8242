"""Puts boxes and edges into a scene, with their magnitudes, tooltips, cuts, and what lights up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.scene.curves import Point
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Box, Dot, Edge, EdgeKind, Scale, Scene
from ...pictures.scene.scene import Row as Line
from ..model.blocks import Link
from ..model.flow import Flow
from ..model.graph import Graph, Place, Use


@dataclass
class Pen:
    """Draws on one scene.

    Attributes:
        scene: what is drawn on.
        graph, flow: what is drawn.
        found: what was asked for with `want`, once measured: key to magnitude.
        by_id: the boxes drawn so far.
        nodes: id of a box or an edge to the nodes whose reaching lights it.
        borders: x of the borders between windows of backpropagation; scissors stand on them.
        lane_room: width to the right of a step in which no mark can stand.
    """

    scene: Scene
    graph: Graph
    flow: Flow | None
    found: dict[Any, float] = field(default_factory=dict)
    by_id: dict[str, Box] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    borders: list[float] = field(default_factory=list)
    lane_room: float = 0.0
    _wanted: dict[Any, Sequence[Use]] = field(default_factory=dict)
    _cuts: dict[tuple[float, float, float], Box] = field(default_factory=dict)

    def want(self, bundles: Mapping[Any, Sequence[Use]]) -> None:
        """Ask for the joint magnitudes of bundles of uses."""
        self._wanted.update(bundles)

    def measure(self) -> None:
        """Find all magnitudes that were asked for, in one walk, and make the scale of the picture."""
        if self.flow is not None:
            self.found = self.flow.joint(self._wanted)
            self.scene.scale = Scale.of(self.found.values())

    def box(
        self, id: str, content: Content, x: float, y: float, width: float, height: float, nodes: Iterable[Node] = ()
    ) -> Box:
        """Draw a box."""
        return self.add(content.at(id, x, y, (width, height)), nodes)

    def add(self, box: Box, nodes: Iterable[Node] = ()) -> Box:
        """Draw a box that is made already."""
        self.scene.boxes.append(box)
        self.by_id[box.id] = box
        self.nodes[box.id] = list(nodes)
        return box

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
    ) -> Edge:
        """Draw an edge, lit with any of `nodes`."""
        ends = tail.id if tail is not None else "", head.id if head is not None else ""
        base = name or "-".join(ends)
        id, number = base, 1
        while id in self.nodes:
            number += 1
            id = f"{base}-{number}"
        if kind is None:
            kind = "value" if magnitude is None else "gradient"
        edge = Edge(
            id,
            *ends,
            tuple(points),
            kind,
            magnitude,
            arrow,
            curved,
            tooltip=self._tip(tail, head, magnitude, kind, name),
        )
        self.scene.edges.append(edge)
        self.nodes[id] = list(nodes)
        return edge

    def _tip(self, tail: Box | None, head: Box | None, magnitude: float | None, kind: EdgeKind, name: str) -> str:
        what = " → ".join(_plain(box) for box in (tail, head) if box is not None) or name
        if kind == "cut":
            return f"{what}\ngradient: stops at the cut"
        if magnitude is None:
            return what + ("\ngradient: none" if self.flow is not None else "")
        warning = self.flow.warning(magnitude) if self.flow is not None else ""
        return f"{what}\ngradient norm: {short_number(magnitude)}" + (f"\nwarning: {warning}" if warning else "")

    def passage(
        self,
        tail: Box,
        head: Box,
        points: Sequence[Point],
        magnitude: float | None,
        link: Link,
        *,
        small: bool = False,
        arrow: bool = True,
    ) -> None:
        """Draw a link, with the cut on it if there is one: scissors, or a badge with its factor."""
        nodes = [node for node, _ in link.uses]
        if not link.cuts:
            self.edge(tail, head, points, magnitude, nodes, arrow=arrow)
            return
        cuts = [self.graph.cuts[node] for node in link.cuts]
        factor = math.prod(0.0 if cut.closed else cut.scale for cut in cuts)
        # On the longest piece of the way, in the part that lies outside the steps.
        at = max(range(len(points) - 1), key=lambda n: math.dist(points[n], points[n + 1]))
        x, y = self._cut_place(tail, head, points, at)
        upright = points[at][0] == points[at + 1][0]
        box = self._cut_box(tail, head, x, head.y if not upright and tail.y == head.y else y, factor, link, small)
        in_x, in_y = (0.0, box.height / 2) if upright else (self._half_chord(box, y), 0.0)
        toward = math.copysign(1.0, points[at + 1][1] - points[at][1] if upright else points[at + 1][0] - points[at][0])
        first = [*points[: at + 1], (x - in_x * toward, y - in_y * toward)]
        second = [(x + in_x * toward, y + in_y * toward), *points[at + 1 :]]
        if factor == 0:
            self.edge(tail, box, first, None, [], kind="cut", arrow=False)
            self.edge(box, head, second, None, nodes, kind="cut", arrow=arrow)
        else:
            before = None if magnitude is None else magnitude * abs(factor)
            self.edge(tail, box, first, before, nodes, arrow=False)
            self.edge(box, head, second, magnitude, nodes, arrow=arrow)

    @staticmethod
    def _half_chord(box: Box, y: float) -> float:
        """Return how far from its middle the border of a round mark is, at this height."""
        radius = box.height / 2
        straight = box.width / 2 - radius
        return straight + math.sqrt(max(radius**2 - (y - box.y) ** 2, 0.0))

    def _cut_place(self, tail: Box, head: Box, points: Sequence[Point], at: int) -> Point:
        (ax, ay), (bx, by) = points[at], points[at + 1]
        spans = sorted(
            (region.x - region.width / 2, region.x + region.width / 2)
            for region in self.scene.regions
            if region.kind == "step"
        )
        if ay == by:
            low, high = min(ax, bx), max(ax, bx)
            ends = [right for _, right in spans if low < right < high]
            begins = [left for left, _ in spans if low < left < high]
            left, right = (max([low, *(e for e in ends if e < high)]), min([high, *(b for b in begins if b > low)]))
            border = next((x for x in self.borders if low < x < high), None)
            if border is not None:
                return border, ay
            if left < right:
                lanes = self.lane_room
                return (left + lanes + right) / 2 if ends else (left + right) / 2, ay
        return (ax + bx) / 2, (ay + by) / 2

    def _cut_box(self, tail: Box, head: Box, x: float, y: float, factor: float, link: Link, small: bool) -> Box:
        key = (round(x, 1), round(y, 1), factor)
        if key in self._cuts:
            return self._cuts[key]
        number = self.graph.number[link.cuts[0]]
        tips = [
            f"cut before {_plain(head)}",
            f"factor: {factor:g}",
            "values: pass unchanged",
            "gradient: stops here" if factor == 0 else f"gradient: × {factor:.4g}",
        ]
        if factor == 0:
            rows = () if small else (Line("gradient stops"),)
            size = 22.0 if small else 34.0
            box = Box(f"cut{number}", x, y, size, size, "cut", "" if small else "cut", rows, "\n".join(tips))
        else:
            title = f"× {factor:.3g}"
            box = Box(f"cut{number}", x, y, 46, 24, "cut", title, (), "\n".join(tips), factor=factor)
        self._cuts[key] = box
        return self.add(box)

    def dot(self, id: str, x: float, y: float, magnitude: float | None, nodes: Iterable[Node]) -> None:
        """Draw a junction."""
        self.scene.dots.append(Dot(id, x, y, magnitude))
        self.nodes[id] = list(nodes)

    def light(self, losses: Mapping[str, Iterable[Place]]) -> None:
        """Note what each loss reaches: boxes, edges and junctions."""
        for id, places in losses.items():
            reached = self.graph.reach(places)
            lit = (key for key, nodes in self.nodes.items() if any(node in reached for node in nodes))
            self.scene.reach[id] = frozenset((*lit, id))


def _plain(box: Box) -> str:
    return box.tooltip.partition("\n")[0] or box.title.replace("_{", "_").replace("}", "")
