"""A layered layout of a graph without cycles, for machines without Graphviz and for pictures that need to be steered.

Source of the scheme: Sugiyama, Tagawa and Toda 1981. Layers by longest path; edges that pass a layer get a place of
their own in it, so that no line runs through a box; order by barycentres; then each layer is moved as near to its
neighbours as the distances allow, which is an isotonic regression (pool adjacent violators) and so cannot overlap.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .ranks import pulled_right, ranks_of
from .spacing import separated

Point = tuple[float, float]

_SWEEPS = 40
_ROUNDS = 12
_PLACES = 10_000  # of passing lines in all layers
_STRAIGHT = 7.0  # a bend of less than this is as good as none: it is drawn straight
_THICK = 60.0  # so much thicker than an item, a layer is crossed straight
_PORT = 13.0  # between two lines that meet one side of a box


class Item(NamedTuple):
    """A box to place: its size, in points."""

    width: float
    height: float


class Arc(NamedTuple):
    """A line to draw from item to item.

    Attributes:
        tail, head: numbers of items.
        weight: heavier lines are kept straighter.
        stub: length of a straight piece at its start, in points, for a label.
        tail_at, head_at: how far from the middle of an item's side it meets the item, in points; None: where it suits.
    """

    tail: int
    head: int
    weight: float = 1.0
    stub: float = 0.0
    tail_at: float | None = None
    head_at: float | None = None


class _Near(NamedTuple):
    """A neighbour of a node: how strong the line to it is, and where it meets both.

    Attributes:
        bend: how much further from the middle it meets the neighbour than the node, in points.
        here, there: where it meets the node and the neighbour, as part of their places in their layers.
    """

    node: int
    weight: float
    bend: float
    here: float
    there: float


class Layout(NamedTuple):
    """Where everything stands.

    Attributes:
        centres: of the items.
        routes: of the arcs: cubic Bezier points, 1 + 3n of them, from tail to head.
        width, height: of the whole, which starts at (0, 0).
    """

    centres: list[Point]
    routes: list[tuple[Point, ...]]
    width: float
    height: float


def layered(
    items: Sequence[Item],
    arcs: Sequence[Arc],
    *,
    ranks: Sequence[int] | None = None,
    downward: bool = False,
    between: float = 22.0,
    across: float = 46.0,
    first: Sequence[int] = (),
    last: Collection[int] = (),
    spine: Collection[int] = (),
    extents: Sequence[float] = (),
    drawn: bool = False,
) -> Layout:
    """Place items in layers, from left to right (or downward), and route the arcs between them.

    Args:
        items: sizes.
        arcs: from item to item, by number; no cycles.
        ranks: layer of each item; None: longest path, items that nothing leads to next to what reads them.
        downward: layers below each other.
        between: least distance of two items in a layer, in points.
        across: distance of two layers, in points.
        first: items that stand at the start (top, or left) of their layer, in this order.
        last: items that stand at the end of their layer.
        spine: items that stand on one straight line.
        extents: least thickness of each layer, so that two layouts have common layers; ranks then count from 0.
        drawn: in a thick layer, items that nothing leads to are drawn to its end, and loose ends to its start.

    Raises:
        ValueError: if the arcs run in a cycle.

    >>> layout = layered([Item(40, 20)] * 3, [Arc(0, 1), Arc(1, 2)])
    >>> layout.centres, layout.width
    ([(20.0, 10.0), (106.0, 10.0), (192.0, 10.0)], 212.0)
    """
    pairs = [(arc.tail, arc.head) for arc in arcs]
    placed = pulled_right(ranks_of(len(items), pairs), pairs) if ranks is None else list(ranks)
    sizes = [item[::-1] if downward else item for item in items]  # (along the layers, within a layer)
    layering = _Layering(sizes, arcs, placed, between, extents)
    layering.order(first, last)
    layering.straighten(set(spine))
    layout = layering.layout(across, drawn)
    if not downward:
        return layout
    return Layout(
        [(y, x) for x, y in layout.centres],
        [tuple((y, x) for x, y in route) for route in layout.routes],
        layout.height,
        layout.width,
    )


class _Layering:
    """Items and the places of passing lines ("dummies") in layers; all directions as if left to right."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        arcs: Sequence[Arc],
        ranks: list[int],
        between: float,
        extents: Sequence[float],
    ) -> None:
        self.sizes, self.arcs, self.between = sizes, arcs, between
        self.count = len(sizes)
        self.extents = extents
        low = 0 if extents else min(ranks, default=0)
        self.rank = [rank - low for rank in ranks]
        self.chains: list[list[int]] = []
        self.heads: list[list[_Near]] = [[] for _ in sizes]
        self.tails: list[list[_Near]] = [[] for _ in sizes]
        longest = self._longest()
        for arc in arcs:
            chain = [arc.tail]
            passed = range(self.rank[arc.tail] + 1, self.rank[arc.head])
            if len(passed) <= longest:
                chain += [self._dummy(rank) for rank in passed]
            chain.append(arc.head)
            self.chains.append(chain)
            for a, b in itertools.pairwise(chain):
                bends = (a >= self.count) + (b >= self.count)
                weight = arc.weight * (1.0, 3.0, 9.0)[bends]
                start = (arc.tail_at or 0.0) if a == arc.tail else 0.0
                end = (arc.head_at or 0.0) if b == arc.head else 0.0
                here, there = start / max(self.height(a), 1.0), end / max(self.height(b), 1.0)
                self.heads[a].append(_Near(b, weight, end - start, 0.9 * here, 0.9 * there))
                self.tails[b].append(_Near(a, weight, start - end, 0.9 * there, 0.9 * here))
        self.layers: list[list[int]] = [[] for _ in range(max(max(self.rank, default=0) + 1, len(extents)))]
        for node in range(len(self.rank)):
            self.layers[self.rank[node]].append(node)
        self.y = [0.0] * len(self.rank)

    def _longest(self) -> int:
        """Return how many layers a line may pass; longer ones run straight, or a large graph would take minutes."""
        total = 0
        for passed in sorted(self.rank[arc.head] - self.rank[arc.tail] - 1 for arc in self.arcs):
            total += passed
            if total > _PLACES:
                return passed - 1
        return len(self.rank)

    def _dummy(self, rank: int) -> int:
        self.rank.append(rank)
        self.heads.append([])
        self.tails.append([])
        return len(self.rank) - 1

    def height(self, node: int) -> float:
        return self.sizes[node][1] if node < self.count else 2.0

    def order(self, first: Sequence[int], last: Collection[int]) -> None:
        """Sort each layer by the mean place of its neighbours, back and forth; keep the order that crosses least."""
        place = [0.0] * len(self.rank)
        step = [1.0 / len(self.layers[rank]) for rank in self.rank]
        key = dict.fromkeys(last, 1) | {node: number - len(first) for number, node in enumerate(first)}

        def settle(layer: list[int]) -> None:
            # Items change places among themselves; passing lines stay where they are: crossing those does no harm.
            items = sorted((node for node in layer if node < self.count), key=lambda node: key.get(node, 0))
            waiting = iter(items)
            layer[:] = [next(waiting) if node < self.count else node for node in layer]
            for number, node in enumerate(layer):
                # Between 0 and 1, so that layers of different sizes compare.
                place[node] = 1.0 if node in last and node == layer[-1] else (number + 0.5) / len(layer)

        for layer in self.layers:
            layer.sort(key=lambda node: node in last)
            settle(layer)
        best, fewest = [list(layer) for layer in self.layers], self._crossings(place, step)
        for sweep in range(_SWEEPS // 2):
            forward = sweep % 2 == 0
            sides = self.tails if forward else self.heads
            for layer in self.layers if forward else reversed(self.layers):
                wanted = {
                    node: sum([place[o] + step[o] * spot for o, _, _, _, spot in sides[node]]) / len(sides[node])
                    if sides[node]
                    else place[node]
                    for node in layer
                }
                layer.sort(key=wanted.__getitem__)
                settle(layer)
            crossings = self._crossings(place, step)
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
            if not fewest:
                break
        self.layers = best
        self._exchange(place, key)

    def _exchange(self, place: list[float], key: Mapping[int, int]) -> None:
        """Let neighbours change places where that crosses less, until none does."""
        sides = (self.tails, self.heads)
        for layer in self.layers:
            for number, node in enumerate(layer):
                place[node] = number

        def crossings(a: int, b: int) -> int:
            """Count the crossings of the lines of a, above, with those of b, below."""
            total = 0
            for side in sides:
                below = [place[near.node] + near.there for near in side[b]]
                total += sum([place[near.node] + near.there > y for near in side[a] for y in below])
            return total

        for _ in range(_ROUNDS):
            moved = False
            for layer in self.layers:
                for at in range(len(layer) - 1):
                    a, b = layer[at], layer[at + 1]
                    fixed = a < self.count and b < self.count and key.get(a, 0) != key.get(b, 0)
                    if not fixed and crossings(b, a) < crossings(a, b):
                        layer[at], layer[at + 1] = b, a
                        place[a], place[b] = at + 1, at
                        moved = True
            if not moved:
                return

    def _crossings(self, place: Sequence[float], step: Sequence[float]) -> int:
        total = 0
        for layer in self.layers:
            ends: list[float] = []
            lines = sorted(
                [
                    (place[node] + step[node] * here, place[other] + step[other] * there)
                    for node in layer
                    for other, _, _, here, there in self.heads[node]
                ]
            )
            for _, end in lines:
                total += len(ends) - bisect_right(ends, end)
                insort(ends, end)
        return total

    def straighten(self, spine: set[int]) -> None:
        """Move layers, back and forth, as near to the weighted mean of their neighbours as distances allow."""
        for layer in self.layers:
            steps = [0.0, *(self._distance(a, b) for a, b in itertools.pairwise(layer))]
            places = np.cumsum(steps)
            anchor = next((places[n] for n, node in enumerate(layer) if node in spine), places[-1] / 2 if layer else 0)
            for node, place in zip(layer, places, strict=False):  # an empty layer has one place
                self.y[node] = float(place - anchor)
        gaps = [[self._distance(a, b) for a, b in itertools.pairwise(layer)] for layer in self.layers]
        for sweep in range(_SWEEPS):
            layers = list(zip(self.layers, gaps, strict=True))
            for layer, distances in layers if sweep % 2 == 0 else reversed(layers):
                wanted, weights = [], []
                for node in layer:
                    want, weight = self._pull(node, sweep >= _SWEEPS // 2)
                    wanted.append(0.0 if node in spine else want)
                    weights.append(1e9 if node in spine else weight)
                for node, place in zip(layer, separated(wanted, weights, distances), strict=True):
                    self.y[node] = place

    def _pull(self, node: int, late: bool) -> tuple[float, float]:
        """Return where its neighbours want a node, and how much."""
        y, here = self.y, self.y[node]
        total = pull = 0.0
        for side in (self.tails[node], self.heads[node]):
            for other, weight, bend, _, _ in side:
                level = y[other] + bend
                if late:  # from squares towards absolute distances: one bend, not many small ones
                    weight /= 3.0 + abs(level - here)
                total += weight
                pull += level * weight
        return (pull / total, total) if total else (here, 0.01)

    def _distance(self, a: int, b: int) -> float:
        passing = (a >= self.count) + (b >= self.count)
        return (self.height(a) + self.height(b)) / 2 + (self.between, self.between * 0.7, 11.0)[passing]

    def layout(self, across: float, drawn: bool = False) -> Layout:
        """Return centres and routes, moved so that everything starts at (0, 0)."""
        widths = [max((self.sizes[n][0] for n in layer if n < self.count), default=0.0) for layer in self.layers]
        widths = [max(pair) for pair in zip(widths, self.extents or widths, strict=True)]
        stubs = [0.0] * len(self.layers)
        for arc in self.arcs:
            stubs[self.rank[arc.tail]] = max(stubs[self.rank[arc.tail]], arc.stub)
        starts = np.cumsum([0.0, *(width + across + stub for width, stub in zip(widths, stubs, strict=True))])
        x = [float(starts[rank]) + widths[rank] / 2 for rank in self.rank]
        for node in range(self.count if drawn else 0):
            side = (not self.tails[node]) - (not self.heads[node])
            x[node] += side * (widths[self.rank[node]] - self.sizes[node][0]) / 2
        top = min((self.y[n] - self.height(n) / 2 for n in range(len(self.rank))), default=0.0)
        y = [round(value - top, 2) for value in self.y]
        ports = self._ports(y)
        middle = [float(start) + width / 2 for start, width in zip(starts[:-1], widths, strict=True)]
        routes = [self._route(number, x, y, widths, middle, ports) for number in range(len(self.arcs))]
        height = max((y[n] + self.height(n) / 2 for n in range(len(self.rank))), default=0.0)
        return Layout(
            list(zip(x, y, strict=True))[: self.count], routes, float(starts[-1]) - across - stubs[-1], height
        )

    def _ports(self, y: Sequence[float]) -> dict[tuple[int, bool], float]:
        """Return, for each arc and end (True: its tail), how far from the middle of the side it meets its box."""
        sides: dict[tuple[int, bool], list[tuple[float, int]]] = {}
        for number, chain in enumerate(self.chains):
            sides.setdefault((chain[0], True), []).append((y[chain[1]], number))
            sides.setdefault((chain[-1], False), []).append((y[chain[-2]], number))
        ports: dict[tuple[int, bool], float] = {}
        for (item, tail), lines in sides.items():
            given = {number: self.arcs[number].tail_at if tail else self.arcs[number].head_at for _, number in lines}
            step = min(_PORT, (self.height(item) - 10) / max(1, len(lines)))
            for place, (_, number) in enumerate(sorted(lines)):
                at = given[number]
                ports[number, tail] = (place - (len(lines) - 1) / 2) * step if at is None else at
        return ports

    def _route(
        self,
        number: int,
        x: Sequence[float],
        y: Sequence[float],
        widths: Sequence[float],
        middle: Sequence[float],
        ports: Mapping[tuple[int, bool], float],
    ) -> tuple[Point, ...]:
        chain = self.chains[number]
        tail, head = chain[0], chain[-1]
        levels = [y[tail] + ports[number, True], *(y[node] for node in chain[1:-1]), y[head] + ports[number, False]]
        for at in range(1, len(levels) - 1):
            if abs(levels[at] - levels[at - 1]) < _STRAIGHT:
                levels[at] = levels[at - 1]
        if abs(levels[-1] - levels[-2]) < _STRAIGHT:
            arc = self.arcs[number]
            if not ports[number, False] and arc.head_at is None:
                levels[-1] = levels[-2]  # the only line there may meet its box a little off the middle
            elif len(levels) > 2 or not (ports[number, True] or arc.tail_at is not None):
                levels[-2] = levels[-1]
        points: list[Point] = [(x[tail] + self.sizes[tail][0] / 2, levels[0])]
        end = middle[self.rank[tail]] + widths[self.rank[tail]] / 2 + self.arcs[number].stub
        if self.arcs[number].stub or end > points[0][0] + _THICK:
            _flow(points, (end, levels[0]))
        for node, level in zip(chain[1:-1], levels[1:-1], strict=True):
            half = widths[self.rank[node]] / 2
            _flow(points, (x[node] - half, level))
            _flow(points, (x[node] + half, level))
        start, border = middle[self.rank[head]] - widths[self.rank[head]] / 2, x[head] - self.sizes[head][0] / 2
        if border > start + _THICK:
            _flow(points, (start, levels[-1]))
        _flow(points, (border, levels[-1]))
        return tuple(points)


def _flow(points: list[Point], end: Point) -> None:
    """Add a curve from the last point to `end` that leaves and arrives along the layers' direction."""
    (ax, ay), (bx, by) = points[-1], end
    if ax == bx and ay == by:
        return
    half = (bx - ax) * (1 / 3 if ay == by else 0.5)
    points += [(ax + half, ay), (bx - half, by), end]
