"""A layered layout of a graph without cycles.

Source of the scheme: Sugiyama, Tagawa and Toda 1981. Layers by longest path; an edge that passes through a layer gets a
position of its own in it, so that no line runs through a box; order by barycentres; then each layer is moved as near to
its neighbours as the distances allow: an isotonic regression (pool adjacent violators), in which nothing can overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import NamedTuple

from ..scene.curves import Point
from .order import Layers, ordered
from .proper import Arc as Arc
from .proper import Item as Item
from .proper import ProperGraph
from .ranks import pulled_right, ranks_of
from .spacing import separated

_SWEEPS = 40
_STRAIGHT = 7.0  # a smaller bend is drawn straight
_THICK = 60.0  # a layer that is thicker than an item by this is crossed straight
_PORT = 13.0  # between two lines that meet one side of a box


class Layout(NamedTuple):
    """The positions of items, and the routes of arcs.

    Attributes:
        centres: of the items.
        routes: of the arcs: cubic Bezier points, 1 + 3n of them, from tail to head.
        width, height: of the whole layout, which starts at (0, 0).
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
    """Arrange items in layers, from left to right (or downward), and route the arcs between them.

    Args:
        items: sizes.
        arcs: from item to item, by number; no cycles.
        ranks: layer of each item; None: by the longest path, and an item without arcs into it next to its readers.
        downward: layers are stacked from top to bottom.
        between: least distance between two items in a layer, in points.
        across: distance between two layers, in points.
        first: items at the start (top, or left) of their layer, in this order.
        last: items at the end of their layer.
        spine: items that are kept on one straight line.
        extents: least thickness of each layer, so that two layouts have common layers; ranks then count from 0.
        drawn: in a thick layer, items without arcs into them are put at its end, those without arcs out at its start.

    Raises:
        ValueError: if the arcs run in a cycle.

    >>> layout = layered([Item(40, 20)] * 3, [Arc(0, 1), Arc(1, 2)])
    >>> layout.centres, layout.width
    ([(20.0, 10.0), (106.0, 10.0), (192.0, 10.0)], 212.0)
    """
    pairs = [(arc.tail, arc.head) for arc in arcs]
    placed = pulled_right(ranks_of(len(items), pairs), pairs) if ranks is None else ranks
    sizes = [Item(*item[::-1]) if downward else item for item in items]
    graph = ProperGraph(sizes, arcs, placed, between, len(extents))
    heights = _straightened(graph, ordered(graph, first, last), frozenset(spine))
    layout = _routed(graph, heights, across, extents, drawn)
    if not downward:
        return layout
    return Layout(
        [(y, x) for x, y in layout.centres],
        [tuple((y, x) for x, y in route) for route in layout.routes],
        layout.height,
        layout.width,
    )


def _straightened(graph: ProperGraph, layers: Layers, spine: Collection[int]) -> list[float]:
    """Return the y of each node: layers are moved, back and forth, towards the weighted means of their neighbours."""
    y = [0.0] * len(graph.rank)
    gaps = [graph.distances(layer) for layer in layers]
    for layer, distances in zip(layers, gaps, strict=True):
        places = list(accumulate(distances, initial=0.0))
        anchor = next((places[n] for n, node in enumerate(layer) if node in spine), places[-1] / 2)
        for node, place in zip(layer, places, strict=False):  # an empty layer has one place
            y[node] = place - anchor
    for sweep in range(_SWEEPS):
        pairs = list(zip(layers, gaps, strict=True))
        for layer, distances in pairs if sweep % 2 == 0 else reversed(pairs):
            wanted, weights = [], []
            for node in layer:
                want, weight = (0.0, 1e9) if node in spine else _pull(graph, y, node, sweep >= _SWEEPS // 2)
                wanted.append(want)
                weights.append(weight)
            for node, place in zip(layer, separated(wanted, weights, distances), strict=True):
                y[node] = place
    top = min((y[node] - graph.height(node) / 2 for node in range(len(y))), default=0.0)
    return [round(value - top, 2) for value in y]


def _pull(graph: ProperGraph, y: Sequence[float], node: int, late: bool) -> tuple[float, float]:
    """Return the position to which its neighbours pull a node, and how strongly."""
    here = y[node]
    total = pull = 0.0
    for side in (graph.tails[node], graph.heads[node]):
        for other, weight, bend, _, _ in side:
            level = y[other] + bend
            if late:  # from squares towards absolute distances: one bend instead of many small ones
                weight /= 3.0 + abs(level - here)
            total += weight
            pull += level * weight
    return (pull / total, total) if total else (here, 0.01)


def _routed(graph: ProperGraph, y: Sequence[float], across: float, extents: Sequence[float], drawn: bool) -> Layout:
    """Return the layout of a graph, given the y of each node."""
    widths = [
        max((graph.sizes[n].width for n in layer if not graph.is_passing(n)), default=0.0) for layer in graph.layers
    ]
    widths = [max(pair) for pair in zip(widths, extents or widths, strict=True)]
    stubs = [0.0] * len(widths)
    for arc in graph.arcs:
        stubs[graph.rank[arc.tail]] = max(stubs[graph.rank[arc.tail]], arc.stub)
    steps = (width + across + stub for width, stub in zip(widths, stubs, strict=True))
    *starts, end = accumulate(steps, initial=0.0)
    middles = [start + width / 2 for start, width in zip(starts, widths, strict=True)]
    layers = [(middle - width / 2, middle + width / 2) for middle, width in zip(middles, widths, strict=True)]
    x = [middles[rank] for rank in graph.rank]
    for node in range(graph.count if drawn else 0):
        side = (not graph.tails[node]) - (not graph.heads[node])
        x[node] += side * (widths[graph.rank[node]] - graph.sizes[node].width) / 2
    ports = _ports(graph, y)
    centres = list(zip(x, y, strict=True))
    routes = [_route(graph, number, centres, layers, ports) for number in range(len(graph.arcs))]
    height = max((y[node] + graph.height(node) / 2 for node in range(len(y))), default=0.0)
    return Layout(centres[: graph.count], routes, end - across - stubs[-1], height)


_Ports = dict[tuple[int, bool], float]
"""For each arc and end (True: its tail), how far from the middle of the side it meets its box."""


def _ports(graph: ProperGraph, y: Sequence[float]) -> _Ports:
    """Return where lines meet boxes: spread along the side, in the order of their other ends."""
    sides: dict[tuple[int, bool], list[tuple[float, int]]] = {}
    for number, chain in enumerate(graph.chains):
        sides.setdefault((chain[0], True), []).append((y[chain[1]], number))
        sides.setdefault((chain[-1], False), []).append((y[chain[-2]], number))
    ports: _Ports = {}
    for (item, tail), lines in sides.items():
        step = min(_PORT, (graph.height(item) - 10) / max(1, len(lines)))
        for place, (_, number) in enumerate(sorted(lines)):
            given = graph.arcs[number].tail_at if tail else graph.arcs[number].head_at
            ports[number, tail] = (place - (len(lines) - 1) / 2) * step if given is None else given
    return ports


def _route(
    graph: ProperGraph, number: int, centres: Sequence[Point], layers: Sequence[tuple[float, float]], ports: _Ports
) -> tuple[Point, ...]:
    """Return the route of an arc; `layers` are the start and the end of each layer."""
    arc, chain = graph.arcs[number], graph.chains[number]
    tail, head = chain[0], chain[-1]
    levels = [centres[node][1] for node in chain]
    levels[0] += ports[number, True]
    levels[-1] += ports[number, False]
    for at in range(1, len(levels) - 1):
        if abs(levels[at] - levels[at - 1]) < _STRAIGHT:
            levels[at] = levels[at - 1]
    if abs(levels[-1] - levels[-2]) < _STRAIGHT:
        if not ports[number, False] and arc.head_at is None:
            levels[-1] = levels[-2]  # the only line there may meet its box a little off the middle
        elif len(levels) > 2 or not (ports[number, True] or arc.tail_at is not None):
            levels[-2] = levels[-1]
    points: list[Point] = [(centres[tail][0] + graph.sizes[tail].width / 2, levels[0])]
    end = layers[graph.rank[tail]][1] + arc.stub
    if arc.stub or end > points[0][0] + _THICK:
        _flow(points, (end, levels[0]))
    for node, level in zip(chain[1:-1], levels[1:-1], strict=True):
        for x in layers[graph.rank[node]]:
            _flow(points, (x, level))
    start, border = layers[graph.rank[head]][0], centres[head][0] - graph.sizes[head].width / 2
    if border > start + _THICK:
        _flow(points, (start, levels[-1]))
    _flow(points, (border, levels[-1]))
    return tuple(points)


def _flow(points: list[Point], end: Point) -> None:
    """Add a curve from the last point to `end`, whose ends point in the direction from layer to layer."""
    (ax, ay), (bx, by) = points[-1], end
    if ax == bx and ay == by:
        return
    half = (bx - ax) * (1 / 3 if ay == by else 0.5)
    points += [(ax + half, ay), (bx - half, by), end]
