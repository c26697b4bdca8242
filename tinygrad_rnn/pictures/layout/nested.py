"""Layout of a diagram with groups: each group is laid out by itself, and is one box in the layout around it.

An edge that crosses the border of a group has a port there: inside the group it is drawn from or to the port, and
outside from port to port. So no line runs through a box or a group that it is not connected to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..scene.curves import Point
from ..scene.text import text_width
from .components import reached
from .diagram import Diagram
from .layered import Arc, Item, layered
from .ranks import gathered, ranks_of

Borders = tuple[float, float, float, float]

_PAD = 14.0  # between the boxes of a group and its border
_LABEL = 16.0  # height of the label of a group
_PORT = Item(6.0, 1.0)


class _Port(NamedTuple):
    """The point where an edge, given by its number, enters or leaves a group."""

    edge: int
    out: bool


_Name = str | _Port


class Places(NamedTuple):
    """The positions of a diagram: y grows downward from (0, 0).

    Attributes:
        centres: id of a box to its centre.
        routes: of the edges: cubic Bezier points from tail to head.
        regions: id of a group to its (left, top, right, bottom).
        width, height: of the whole layout.
    """

    centres: dict[str, Point]
    routes: list[tuple[Point, ...]]
    regions: dict[str, Borders]
    width: float
    height: float


def nested(diagram: Diagram, *, upward: bool = False, across: float = 34.0, between: float = 22.0) -> Places:
    """Return the positions of a diagram, with its edges running down (or up).

    Groups that form a cycle are not kept together; boxes that form a cycle keep the order in which they are given.

    Args:
        diagram: the diagram to lay out.
        upward: whether edges run up.
        across: distance between two layers, in points.
        between: least distance between two boxes in a layer, in points.
    """
    return _Nest(diagram, upward, across, between).places()


@dataclass(frozen=True)
class _Level:
    """What is directly inside a group, or outside all groups: items, and the arcs between them."""

    items: list[str] = field(default_factory=list)
    arcs: list[tuple[_Name, _Name, int]] = field(default_factory=list)  # tail, head, and number of the edge


class _Inside(NamedTuple):
    """A level that is laid out.

    Attributes:
        centres: of its items and ports.
        routes: number of an edge to its route.
        size: of the layout.
        outer: size of the group, with its border.
        corner: of the layout, in the group.
    """

    centres: dict[_Name, Point]
    routes: dict[int, tuple[Point, ...]]
    size: Item
    outer: Item
    corner: Point


class _Nest:
    def __init__(self, diagram: Diagram, upward: bool, across: float, between: float) -> None:
        self.diagram, self.upward, self.across, self.between = diagram, upward, across, between
        self.parent = {member: id for id, group in diagram.groups.items() for member in group.members}
        self.ends = [
            (edge.head, edge.tail)
            if edge.back and self.parent.get(edge.head, "") in self._way(edge.tail)
            else (edge.tail, edge.head)
            for edge in diagram.edges
        ]
        place = {id: number for number, id in enumerate(diagram.boxes)}
        if not _is_acyclic(len(place), [(place[a], place[b]) for a, b in self.ends]):
            self.ends = [(a, b) if place[a] < place[b] else (b, a) for a, b in self.ends]
        while True:
            self.levels = self._levels()
            cycle = next((id for id in self.levels if id and self._in_cycle(id)), None)
            if cycle is None:
                break
            for member in self.diagram.groups[cycle].members:
                self.parent.pop(member)
                if cycle in self.parent:
                    self.parent[member] = self.parent[cycle]
            self.parent.pop(cycle, None)

    def _way(self, item: str) -> list[str]:
        """Return an item and the groups around it, the outermost, "", last."""
        way = [item]
        while way[-1]:
            way.append(self.parent.get(way[-1], ""))
        return way

    def _levels(self) -> dict[str, _Level]:
        """Return the content of each group, and of the level outside all groups (""), outer groups first."""
        levels: dict[str, _Level] = {"": _Level()}
        for box in self.diagram.boxes:
            for inner, outer in pairwise(self._way(box)):
                items = levels.setdefault(outer, _Level()).items
                if inner not in items:
                    items.append(inner)
        for number, (tail, head) in enumerate(self.ends):
            out, into = self._way(tail), self._way(head)
            common = next(group for group in out[1:] if group in into[1:])
            out, into = out[: out.index(common)], into[: into.index(common)]
            for inner, group in pairwise(out):
                levels[group].arcs.append((inner, _Port(number, True), number))
            for inner, group in pairwise(into):
                levels[group].arcs.append((_Port(number, False), inner, number))
            levels[common].arcs.append((out[-1], into[-1], number))
        return dict(sorted(levels.items(), key=lambda pair: len(self._way(pair[0])) if pair[0] else 0))

    def _in_cycle(self, group: str) -> bool:
        """Return whether a path leads from a group back to it, in the level around it."""
        level = self.levels[self.parent.get(group, "")]
        heads: dict[_Name, list[_Name]] = {}
        for tail, head, _ in level.arcs:
            heads.setdefault(tail, []).append(head)
        return group in reached(heads.get(group, ()), lambda item: heads.get(item, ()))

    def places(self) -> Places:
        """Return the positions."""
        inside: dict[str, _Inside] = {}
        for group in reversed(self.levels):  # inner groups first: they are items of the outer ones
            inside[group] = self._lay_out(group, self.levels[group], inside)
        corner: dict[str, Point] = {"": (0.0, 0.0)}
        centres: dict[str, Point] = {}
        regions: dict[str, Borders] = {}
        for group, level in self.levels.items():
            left, top = corner[group]
            for item in level.items:
                x, y = inside[group].centres[item]
                if item in inside:
                    width, height = inside[item].outer
                    west, north, east, south = x - width / 2, y - height / 2, x + width / 2, y + height / 2
                    regions[item] = (left + west, top + north, left + east, top + south)
                    dx, dy = inside[item].corner
                    corner[item] = (regions[item][0] + dx, regions[item][1] + dy)
                else:
                    centres[item] = (left + x, top + y)
        routes = [self._route(number, inside, corner) for number in range(len(self.ends))]
        made = Places(centres, routes, regions, *inside[""].size)
        return _flipped(made) if self.upward else made

    def _lay_out(self, group: str, level: _Level, inside: Mapping[str, _Inside]) -> _Inside:
        """Return the layout of the content of a group; `inside` has the layouts of the groups in it."""
        ports = [end for arc in level.arcs for end in arc[:2] if isinstance(end, _Port)]
        names: list[_Name] = [*level.items, *ports]
        index = {name: number for number, name in enumerate(names)}
        own = len(level.items)
        pairs = [(index[tail], index[head]) for tail, head, _ in level.arcs]
        ranks = [rank + 1 for rank in gathered(own, [pair for pair in pairs if max(pair) < own])]
        last = max(ranks, default=0) + 1
        ranks += [last if port.out else 0 for port in ports]
        if all(port.out for port in ports):
            ranks = [rank - 1 for rank in ranks]
        boxes = self.diagram.boxes
        sizes = [inside[item].outer if item in inside else Item(*boxes[item].size()) for item in level.items]
        sizes += [_PORT for _ in ports]

        def offset(item: _Name, edge: int, out: bool) -> float | None:
            """Return how far from the middle of an item an edge meets it: at the port, if it is a group."""
            if isinstance(item, _Port):
                return 0.0
            if item not in inside:
                return None
            return inside[item].centres[_Port(edge, out)][0] - inside[item].size.width / 2

        arcs = []
        for (a, b), (tail, head, number) in zip(pairs, level.arcs, strict=True):
            weight = 4.0 if tail in inside and head in inside else 1.0  # from group to group, kept straighter
            arcs.append(Arc(a, b, weight, 0.0, offset(tail, number, True), offset(head, number, False)))
        layout = layered(sizes, arcs, ranks=ranks, downward=True, across=self.across, between=self.between, drawn=True)
        centres = dict(zip(names, layout.centres, strict=True))
        routes = {number: route for (_, _, number), route in zip(level.arcs, layout.routes, strict=True)}
        size = Item(layout.width, layout.height)
        return _Inside(centres, routes, size, *self._border(group, size, ports))

    def _border(self, group: str, size: Item, ports: Sequence[_Port]) -> tuple[Item, Point]:
        """Return the size of a group around a layout, and the layout's corner in it; lines enter at its border."""
        label = self.diagram.groups[group].label if group else ""
        around = _PAD if label else 0.0
        first = 0.0 if any(not port.out for port in ports) else around
        end = 0.0 if any(port.out for port in ports) else around
        if label and self.upward and end:
            end += _LABEL
        elif label and not self.upward and first:
            first += _LABEL
        width = max(size.width, text_width(label, 9)) + 2 * around
        return Item(width, size.height + first + end), ((width - size.width) / 2, first)

    def _route(self, number: int, inside: Mapping[str, _Inside], corner: Mapping[str, Point]) -> tuple[Point, ...]:
        """Return the route of an edge, out of the groups around its tail and into those around its head."""
        tail, head = self.ends[number]
        out, into = self._way(tail), self._way(head)
        common = next(group for group in out[1:] if group in into[1:])
        pieces: list[Sequence[Point]] = []
        for group in [*out[1 : out.index(common)], common, *reversed(into[1 : into.index(common)])]:
            left, top = corner[group]
            pieces.append([(left + x, top + y) for x, y in inside[group].routes[number]])
        route = joined(pieces)
        return route if tail == self.diagram.edges[number].tail else route[::-1]


def _is_acyclic(count: int, arcs: Sequence[tuple[int, int]]) -> bool:
    try:
        ranks_of(count, arcs)
    except ValueError:
        return False
    return True


def joined(pieces: Iterable[Sequence[Point]]) -> tuple[Point, ...]:
    """Return Bezier routes joined to one, with straight lines where one ends above the start of the next."""
    whole: list[Point] = []
    for piece in pieces:
        if whole and whole[-1] != piece[0]:
            (ax, ay), (bx, by) = whole[-1], piece[0]
            whole += [(ax, (ay + by) / 2), (bx, (ay + by) / 2), (bx, by)]
        whole += piece[1:] if whole else piece
    return tuple(whole)


def _flipped(places: Places) -> Places:
    """Return the layout upside down."""
    h = places.height
    return Places(
        {id: (x, h - y) for id, (x, y) in places.centres.items()},
        [tuple((x, h - y) for x, y in route) for route in places.routes],
        {id: (left, h - bottom, right, h - top) for id, (left, top, right, bottom) in places.regions.items()},
        places.width,
        h,
    )
