"""Places for a diagram with groups: each group is laid out by itself, and stands as one box in what is around it.

An edge that crosses the border of a group has a port there: within the group it is drawn from or to the port, and
around it from port to port. So no line runs through a box or through a group that it has nothing to do with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..scene.text import text_width
from .diagram import Diagram
from .layered import Arc, Item, Layout, layered
from .ranks import gathered, ranks_of

Point = tuple[float, float]
Borders = tuple[float, float, float, float]

_PAD = 14.0  # between the boxes of a group and its border
_LABEL = 16.0  # height of the label of a group
_PORT = Item(6.0, 1.0)


class _Port(NamedTuple):
    """Where an edge, by its number, comes into a group or goes out of it."""

    edge: int
    out: bool


_Name = str | _Port


class Places(NamedTuple):
    """A layout: y grows downward from (0, 0).

    Attributes:
        centres: id of a box to its centre.
        routes: of the edges: cubic Bezier points from tail to head.
        regions: id of a group to its (left, top, right, bottom).
        width, height: of the whole.
    """

    centres: dict[str, Point]
    routes: list[tuple[Point, ...]]
    regions: dict[str, Borders]
    width: float
    height: float


def nested(diagram: Diagram, *, upward: bool = False, across: float = 34.0, between: float = 22.0) -> Places:
    """Return places for a diagram, its edges running down (or up); groups that run in a cycle are not kept together.

    Where boxes run in a cycle, they stand in the order in which they are given.

    Args:
        diagram: what is placed.
        upward: whether edges run up.
        across: distance of two layers, in points.
        between: least distance of two boxes in a layer, in points.
    """
    return _Nest(diagram, upward, across, between).places()


@dataclass
class _Level:
    """What is directly inside a group, or inside none: items, and the arcs between them."""

    items: list[str] = field(default_factory=list)
    arcs: list[tuple[_Name, _Name, int]] = field(default_factory=list)  # tail, head, and number of the edge
    of: dict[int, int] = field(default_factory=dict)  # number of an edge to that of its arc
    layout: Layout | None = None
    index: dict[_Name, int] = field(default_factory=dict)


class _Nest:
    def __init__(self, diagram: Diagram, upward: bool, across: float, between: float) -> None:
        self.diagram, self.upward, self.across, self.between = diagram, upward, across, between
        self.size: dict[str, Item] = {id: Item(*content.size()) for id, content in diagram.boxes.items()}
        self.top: dict[str, float] = {}  # of a group: from its border to its layout
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
        """Return what stands in each group, and in none (""), outer groups first."""
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
        for level in levels.values():
            level.of = {number: at for at, (_, _, number) in enumerate(level.arcs)}
        return dict(sorted(levels.items(), key=lambda pair: len(self._way(pair[0])) if pair[0] else 0))

    def _in_cycle(self, group: str) -> bool:
        """Return whether a group is reached from itself, around it."""
        level = self.levels[self.parent.get(group, "")]
        heads: dict[_Name, list[_Name]] = {}
        for tail, head, _ in level.arcs:
            heads.setdefault(tail, []).append(head)
        found: set[_Name] = set()
        waiting = list(heads.get(group, ()))
        while waiting:
            item = waiting.pop()
            if item not in found:
                found.add(item)
                waiting += heads.get(item, ())
        return group in found

    def places(self) -> Places:
        """Return the places."""
        for group in reversed(self.levels):  # inner groups first: they are items of the outer ones
            self._lay_out(group, self.levels[group])
        corner: dict[str, Point] = {"": (0.0, 0.0)}
        centres: dict[str, Point] = {}
        regions: dict[str, Borders] = {}
        for group, level in self.levels.items():
            assert level.layout is not None
            left, top = corner[group]
            for item in level.items:
                x, y = level.layout.centres[level.index[item]]
                width, height = self.size[item]
                if item in self.levels:
                    regions[item] = (
                        left + x - width / 2,
                        top + y - height / 2,
                        left + x + width / 2,
                        top + y + height / 2,
                    )
                    corner[item] = (regions[item][0] + self._margin(item), regions[item][1] + self.top[item])
                else:
                    centres[item] = (left + x, top + y)
        outer = self.levels[""].layout
        assert outer is not None
        routes = [self._route(number, corner) for number in range(len(self.ends))]
        made = Places(centres, routes, regions, outer.width, outer.height)
        return _flipped(made) if self.upward else made

    def _margin(self, group: str) -> float:
        layout = self.levels[group].layout
        assert layout is not None
        return (self.size[group].width - layout.width) / 2

    def _lay_out(self, group: str, level: _Level) -> None:
        ports = [end for arc in level.arcs for end in arc[:2] if isinstance(end, _Port)]
        names: list[_Name] = [*level.items, *ports]
        level.index = index = {name: number for number, name in enumerate(names)}
        own = len(level.items)
        pairs = [(index[tail], index[head]) for tail, head, _ in level.arcs]
        inside = [pair for pair in pairs if max(pair) < own]
        ranks = [rank + 1 for rank in gathered(own, inside)]
        last = max(ranks, default=0) + 1
        ranks += [last if port.out else 0 for port in ports]
        if all(port.out for port in ports):
            ranks = [rank - 1 for rank in ranks]
        sizes = [*(self.size[item] for item in level.items), *(_PORT for _ in ports)]
        arcs = [
            Arc(
                a, b, self._weight(tail, head), 0.0, self._offset(tail, number, True), self._offset(head, number, False)
            )
            for (a, b), (tail, head, number) in zip(pairs, level.arcs, strict=True)
        ]
        level.layout = layout = layered(
            sizes, arcs, ranks=ranks, downward=True, across=self.across, between=self.between, drawn=True
        )
        if group:
            label = self.diagram.groups[group].label
            around = _PAD if label else 0.0
            first = 0.0 if any(not port.out for port in ports) else around
            end = 0.0 if any(port.out for port in ports) else around
            if label and self.upward and end:
                end += _LABEL
            elif label and not self.upward and first:
                first += _LABEL
            self.top[group] = first
            room = max(layout.width, text_width(label, 9)) + 2 * around
            self.size[group] = Item(room, layout.height + first + end)

    def _weight(self, tail: _Name, head: _Name) -> float:
        """Return how straight an edge is kept: more, from group to group."""
        return 4.0 if tail in self.levels and head in self.levels else 1.0

    def _offset(self, item: _Name, edge: int, out: bool) -> float | None:
        """Return how far from its middle an edge meets an item: at the port, if it is a group."""
        if isinstance(item, _Port):
            return 0.0
        if item not in self.levels:
            return None
        level = self.levels[item]
        assert level.layout is not None
        return level.layout.centres[level.index[_Port(edge, out)]][0] - level.layout.width / 2

    def _route(self, number: int, corner: dict[str, Point]) -> tuple[Point, ...]:
        pieces: list[Sequence[Point]] = []
        tail, head = self.ends[number]
        out, into = self._way(tail), self._way(head)
        common = next(group for group in out[1:] if group in into[1:])
        for group in [*out[1 : out.index(common)], common, *reversed(into[1 : into.index(common)])]:
            level = self.levels[group]
            assert level.layout is not None
            at = level.of[number]
            left, top = corner[group]
            pieces.append([(left + x, top + y) for x, y in level.layout.routes[at]])
        route = joined(pieces)
        return route if tail == self.diagram.edges[number].tail else route[::-1]


def _is_acyclic(count: int, arcs: Sequence[tuple[int, int]]) -> bool:
    try:
        ranks_of(count, arcs)
    except ValueError:
        return False
    return True


def joined(pieces: Iterable[Sequence[Point]]) -> tuple[Point, ...]:
    """Return Bezier routes as one, with straight lines where one ends above the start of the next."""
    whole: list[Point] = []
    for piece in pieces:
        if whole and whole[-1] != piece[0]:
            (ax, ay), (bx, by) = whole[-1], piece[0]
            whole += [(ax, (ay + by) / 2), (bx, (ay + by) / 2), (bx, by)]
        whole += piece[1:] if whole else piece
    return tuple(whole)


def _flipped(places: Places) -> Places:
    """Return places upside down."""
    h = places.height
    return Places(
        {id: (x, h - y) for id, (x, y) in places.centres.items()},
        [tuple((x, h - y) for x, y in route) for route in places.routes],
        {id: (left, h - bottom, right, h - top) for id, (left, top, right, bottom) in places.regions.items()},
        places.width,
        h,
    )
