"""States and cells: which values are carried from step to step, and which operations make them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...engine.tape import Node
from ...pictures.layout.components import cycles
from .dataflow import Dataflow
from .graph import Place


class Site(NamedTuple):
    """The origin of an operation: module, name, and line in a code object (by its id, which hashes faster)."""

    scope: tuple[str, ...]
    name: str
    code: int
    line: int

    @classmethod
    def of(cls, node: Node) -> Site:
        """Return where a node was recorded."""
        return cls(node.scope, node.name, id(node.site[0]), node.site[1])


Spot = tuple[Site, int]
"""A site, and how many operations of the same step were recorded there before."""


class Kind(NamedTuple):
    """The common identity of blocks of different steps.

    Attributes:
        role: "cell", "attention", "layer" (an output layer, an embedding, ...) or "loss".
        scope: the module in which it was recorded.
        number: distinguishes blocks of one role and scope.
    """

    role: str
    scope: tuple[str, ...]
    number: int


class States:
    """The states of a graph.

    Args:
        flow: sources and readers of the operations.
        members: the operations that are drawn, oldest first.

    Attributes:
        places: the values that a later step reads, or would read if there were one, oldest first.
    """

    def __init__(self, flow: Dataflow, members: Sequence[Node]) -> None:
        self.flow, self.members = flow, [node for node in members if node.step is not None]
        self.spots = spots_of(self.members)
        self.places = self._find()
        self.number: dict[Place, int] = {}  # of a state, the same one in each step
        known: dict[tuple[Spot, int], int] = {}
        for node, output in self.places:
            self.number[node, output] = known.setdefault((self.spots[node], output), len(known))
        self.sites = [site for (site, _), _ in known]
        self.reached = self._reach()
        self.cells = self._cells()
        self.order = {cell: number for number, cell in enumerate(dict.fromkeys(self.cells.values()))}

    def cell_of(self, node: Node) -> Kind | None:
        """Return the cell of an operation: the lowest one in its module with a state that depends on it."""
        found = (self.cells[state] for state in self.reached.get(node, ()))
        return min((cell for cell in found if cell.scope == node.scope), key=self.order.__getitem__, default=None)

    def _find(self) -> list[Place]:
        """Return the values that another step reads, and the values at the same spots of the last step."""
        crossing: dict[Place, None] = {}
        for node in self.members:
            for edge in self.flow.inputs[node]:
                if edge.source in self.spots and edge.source.step != node.step:
                    crossing[edge.source, edge.output] = None
        last = {spot: node for node, spot in self.spots.items()}
        found = dict(crossing)
        for node, output in crossing:
            found.setdefault((last[self.spots[node]], output))
        for place in list(found):  # where a mask chooses between a new state and the old one, the choice is the state
            readers = self.flow.readers.get(place[0], ())
            if place not in crossing and any(r.name == "where" and (r, 0) in found for r in readers):
                del found[place]
        return sorted(found, key=lambda place: (self.flow.graph.number[place[0]], place[1]))

    def _reach(self) -> dict[Node, frozenset[int]]:
        """Return for each node the states that depend on it within its step, by their numbers."""
        found: dict[Node, frozenset[int]] = {}
        for place, number in self.number.items():
            found[place[0]] = found.get(place[0], frozenset()) | {number}
        for node in reversed(self.members):
            for source in self.flow.sources(node) if node in found else ():
                if source.step == node.step:
                    found[source] = found.get(source, frozenset()) | found[node]
        return found

    def _cells(self) -> dict[int, Kind]:
        """Return the cell of each state, by its number, lower cells first."""
        depends: dict[int, set[int]] = {number: set() for number in self.number.values()}  # on other states
        for node in self.members:
            for edge in self.flow.inputs[node]:
                if edge.place in self.number:
                    for state in self.reached.get(node, ()):
                        depends[state].add(self.number[edge.place])
        found: dict[int, Kind] = {}
        rows: dict[tuple[str, ...], list[set[Site]]] = {}
        for cycle in cycles(depends):  # dependencies come first
            scope, sites = self.sites[cycle[0]].scope, {self.sites[state] for state in cycle}
            earlier = rows.setdefault(scope, [])
            # The states of one module belong to one cell, unless a line recorded one before: that is a second layer.
            if scope and earlier and not sites & earlier[-1]:
                earlier[-1] |= sites
            else:
                earlier.append(sites)
            found.update((state, Kind("cell", scope, len(earlier) - 1)) for state in cycle)
        return found


def spots_of(nodes: Iterable[Node]) -> dict[Node, Spot]:
    """Return the spot of each node: its site, and how many nodes of its step were recorded there before."""
    seen: dict[tuple[int | None, Site], int] = {}
    spots: dict[Node, Spot] = {}
    for node in nodes:
        site = Site.of(node)
        seen[node.step, site] = number = seen.get((node.step, site), -1) + 1
        spots[node] = site, number
    return spots
