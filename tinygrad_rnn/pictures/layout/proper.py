"""A graph in layers whose lines all lead to the next layer: one that passes through a layer has a node there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_PLACES = 10_000  # of passing lines in all layers
_PASSING = 2.0  # height of a passing line


class Item(NamedTuple):
    """A box to position: its size, in points."""

    width: float
    height: float


class Arc(NamedTuple):
    """A line to draw from item to item.

    Attributes:
        tail, head: numbers of items.
        weight: heavier lines are kept straighter.
        stub: length of the straight piece at its start, in points, for a label.
        tail_at, head_at: how far from the middle of an item's side it meets the item, in points; None: any.
    """

    tail: int
    head: int
    weight: float = 1.0
    stub: float = 0.0
    tail_at: float | None = None
    head_at: float | None = None


class Near(NamedTuple):
    """A neighbour of a node: how strong the line to it is, and where it meets both.

    Attributes:
        bend: how much further from the middle it meets the neighbour than the node, in points.
        here, there: where it meets the node and the neighbour, as a fraction of their heights.
    """

    node: int
    weight: float
    bend: float
    here: float
    there: float


class ProperGraph:
    """Items, followed by passing lines ("dummy nodes"); directions are named as if layers ran from left to right.

    Args:
        sizes: of the items: along the layers, and within a layer.
        arcs: between items.
        ranks: layer of each item.
        between: least distance between two items in a layer, in points.
        layers: how many there are at least.

    Attributes:
        rank: layer of each node.
        chains: the nodes that each arc passes, from its tail to its head.
        heads, tails: of each node, its neighbours in the next layer and in the one before.
        layers: the nodes of each layer, oldest first.
    """

    def __init__(
        self, sizes: Sequence[Item], arcs: Sequence[Arc], ranks: Sequence[int], between: float, layers: int = 0
    ) -> None:
        self.sizes, self.arcs, self.between, self.count = sizes, arcs, between, len(sizes)
        low = 0 if layers else min(ranks, default=0)
        self.rank = [rank - low for rank in ranks]
        longest = self._longest()
        self.chains: list[list[int]] = []
        for arc in arcs:
            passed = range(self.rank[arc.tail] + 1, self.rank[arc.head])
            dummies = range(len(self.rank), len(self.rank) + len(passed) * (len(passed) <= longest))
            self.rank += passed[: len(dummies)]
            self.chains.append([arc.tail, *dummies, arc.head])
        self.heads: list[list[Near]] = [[] for _ in self.rank]
        self.tails: list[list[Near]] = [[] for _ in self.rank]
        for arc, chain in zip(arcs, self.chains, strict=True):
            for a, b in pairwise(chain):
                self._join(arc, a, b)
        self.layers: list[list[int]] = [[] for _ in range(max(max(self.rank, default=0) + 1, layers))]
        for node, rank in enumerate(self.rank):
            self.layers[rank].append(node)

    def _longest(self) -> int:
        """Return how many layers a line may pass; longer ones run straight, or a large graph would take minutes."""
        total = 0
        for passed in sorted(self.rank[arc.head] - self.rank[arc.tail] - 1 for arc in self.arcs):
            total += passed
            if total > _PLACES:
                return passed - 1
        return len(self.rank)

    def _join(self, arc: Arc, a: int, b: int) -> None:
        """Make two nodes of an arc neighbours; pieces between two nodes of a passing line are kept straightest."""
        weight = arc.weight * (1.0, 3.0, 9.0)[self.is_passing(a) + self.is_passing(b)]
        start = (arc.tail_at or 0.0) if a == arc.tail else 0.0
        end = (arc.head_at or 0.0) if b == arc.head else 0.0
        here, there = 0.9 * (start / max(self.height(a), 1.0)), 0.9 * (end / max(self.height(b), 1.0))
        self.heads[a].append(Near(b, weight, end - start, here, there))
        self.tails[b].append(Near(a, weight, start - end, there, here))

    def is_passing(self, node: int) -> bool:
        """Return whether a node is a passing line."""
        return node >= self.count

    def height(self, node: int) -> float:
        """Return the size of a node within its layer."""
        return _PASSING if self.is_passing(node) else self.sizes[node][1]

    def distances(self, layer: Sequence[int]) -> list[float]:
        """Return the least distance between the middles of each two neighbours in a layer."""
        least = (self.between, self.between * 0.7, 11.0)
        return [
            (self.height(a) + self.height(b)) / 2 + least[self.is_passing(a) + self.is_passing(b)]
            for a, b in pairwise(layer)
        ]
