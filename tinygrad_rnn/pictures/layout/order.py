"""The order of the nodes in each layer, so that few lines cross."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Mapping, Sequence

from .proper import ProperGraph

_SWEEPS = 20
_ROUNDS = 12

Layers = Sequence[Sequence[int]]


def ordered(graph: ProperGraph, first: Sequence[int] = (), last: Collection[int] = ()) -> Layers:
    """Return the layers, each sorted by the mean position of its neighbours, back and forth; the best order found.

    Args:
        graph: items and passing lines.
        first: items at the start of their layer, in this order.
        last: items at the end of their layer.
    """
    layers = [sorted(layer, key=lambda node: node in last) for layer in graph.layers]
    place = [0.0] * len(graph.rank)
    step = [1.0 / len(layers[rank]) for rank in graph.rank]
    key = dict.fromkeys(last, 1) | {node: number - len(first) for number, node in enumerate(first)}

    count = graph.count  # nodes from here on are passing lines

    def settle(layer: list[int]) -> None:
        # Only items are exchanged; passing lines stay where they are, since crossing those does no harm.
        items = sorted((node for node in layer if node < count), key=lambda node: key.get(node, 0))
        waiting = iter(items)
        layer[:] = [next(waiting) if node < count else node for node in layer]
        for number, node in enumerate(layer):
            # Between 0 and 1, so that layers of different sizes compare.
            place[node] = 1.0 if node in last and node == layer[-1] else (number + 0.5) / len(layer)

    for layer in layers:
        settle(layer)
    best, fewest = [list(layer) for layer in layers], _crossings(graph, layers, place, step)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        sides = graph.tails if forward else graph.heads
        for layer in layers if forward else reversed(layers):
            wanted = {
                node: sum([place[o] + step[o] * spot for o, _, _, _, spot in sides[node]]) / len(sides[node])
                if sides[node]
                else place[node]
                for node in layer
            }
            layer.sort(key=wanted.__getitem__)
            settle(layer)
        crossings = _crossings(graph, layers, place, step)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
        if not fewest:
            break
    return _exchanged(graph, best, key)


def _crossings(graph: ProperGraph, layers: Layers, place: Sequence[float], step: Sequence[float]) -> int:
    """Count the crossings of all lines."""
    total = 0
    for layer in layers:
        ends: list[float] = []
        lines = sorted(
            [
                (place[node] + step[node] * here, place[other] + step[other] * there)
                for node in layer
                for other, _, _, here, there in graph.heads[node]
            ]
        )
        for _, end in lines:
            total += len(ends) - bisect_right(ends, end)
            insort(ends, end)
    return total


def _exchanged(graph: ProperGraph, layers: list[list[int]], key: Mapping[int, int]) -> Layers:
    """Return layers in which neighbours have been exchanged until no exchange reduces the crossings.

    Args:
        graph: items and passing lines.
        layers: in the order to be improved.
        key: items with different keys (0 where there is none) keep their order.
    """
    place = {node: float(number) for layer in layers for number, node in enumerate(layer)}

    def crossings(a: int, b: int) -> int:
        """Count the crossings of the lines of a, above, with those of b, below."""
        total = 0
        for side in (graph.tails, graph.heads):
            below = [place[near.node] + near.there for near in side[b]]
            total += sum([place[near.node] + near.there > y for near in side[a] for y in below])
        return total

    for _ in range(_ROUNDS):
        moved = False
        for layer in layers:
            for at in range(len(layer) - 1):
                a, b = layer[at], layer[at + 1]
                fixed = max(a, b) < graph.count and key.get(a, 0) != key.get(b, 0)
                if not fixed and crossings(b, a) < crossings(a, b):
                    layer[at], layer[at + 1] = b, a
                    place[a], place[b] = at + 1, at
                    moved = True
        if not moved:
            break
    return layers
