"""Cells, heads and losses, found in a recorded graph: what the unrolled view draws as one box each.

Nobody says where a cell begins: a user's own is any function. What the record tells is enough: a value that another
step reads is a state; the operations that lead to it within its step are its cell; states that depend on each other,
going round, belong to one cell; what is computed from a cell for no later step is a head; a single number that is only
added up on its way to the loss is a loss of its step. Operations outside time (on a whole sequence) are grouped by the
module that they were recorded in.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from ...engine.tape import Node
from .components import components
from .graph import Graph, Place, Use
from .states import States
from .terms import terms_of
from .web import MOVING, SCALING, Kind, Web


@dataclass(eq=False)
class Group:
    """Nodes that are drawn as one box.

    Attributes:
        kind: its row.
        step: as recorded; None: on the whole sequence.
        nodes: oldest first.
        states: places of it that later steps read (or would read, in the last step).
    """

    kind: Kind
    step: int | None
    nodes: list[Node] = field(default_factory=list)
    states: list[Place] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Link:
    """An edge between two boxes: all uses of one value in one group.

    Attributes:
        tail: the group that made the value; None for a parameter or a constant.
        place: the value; None: a constant, or freed behind a closed cut.
        head: the group that reads it; None: the total loss `loss`.
        uses: where it is read.
        cuts: cut nodes on the way, the nearest to the reader first.
        loss: for a term of a loss, which.
    """

    tail: Group | None
    place: Place | None
    head: Group | None
    uses: tuple[Use, ...]
    cuts: tuple[Node, ...] = ()
    loss: int | None = None


@dataclass(frozen=True)
class Groups:
    """The groups of a graph.

    Attributes:
        groups: oldest first.
        of: node to its group; nodes on the way from a loss to its terms, cuts and leaves are in none.
        links: between groups, and from parameters (a leaf, or what is computed from leaves alone) to groups.
        terms: of each loss, the places that it adds up; itself if it adds up nothing.
        sums: of each loss, the nodes that do so.
        weights: node outside time that is computed from leaves alone, to these leaves.
        constants: group to arrays, or their Specs, that it reads and that no node made.
    """

    groups: tuple[Group, ...]
    of: dict[Node, Group]
    links: tuple[Link, ...]
    terms: tuple[tuple[Place, ...], ...]
    sums: tuple[frozenset[Node], ...]
    weights: dict[Node, tuple[Node, ...]]
    constants: dict[Group, list[tuple[Use, Any]]]


def find_groups(graph: Graph) -> Groups:
    """Return the groups of a graph.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> outputs, _ = tr.unroll(cell, np.ones((1, 4, 2)))
    >>> found = find_groups(read([np.sum(outputs * outputs)]))
    >>> [(group.kind.role, group.step, len(group.states)) for group in found.groups]
    [('cell', 0, 2), ('cell', 1, 2), ('cell', 2, 2), ('cell', 3, 2), ('loss', None, 0)]
    """
    return _Finder(graph).result()


class _Finder:
    """Sorts nodes into groups, in a few walks over the graph."""

    def __init__(self, graph: Graph) -> None:
        self.web = Web(graph)
        found = [terms_of(self.web, loss) for loss in graph.losses]
        self.sums = [frozenset(added) for added, _ in found]
        self.terms = [terms for _, terms in found]
        passed = frozenset().union(*self.sums, self.web.weights)
        used = self._used(passed)
        self.members = [node for node in self.web.inputs if node not in passed and node in used]
        self.kind: dict[Node, Kind] = {}

    def _used(self, passed: frozenset[Node]) -> set[Node]:
        """Return the nodes that the losses reach: a stack that every reader undoes is not drawn."""
        waiting = [place[0] for terms in self.terms for place in terms]
        waiting += [source.place[0] for node in passed for source in self.web.inputs[node] if source.place is not None]
        found: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in found or node not in self.web.inputs:
                continue
            found.add(node)
            waiting += [source.place[0] for source in self.web.inputs[node] if source.place is not None]
        return found

    # -- rows ----------------------------------------------------------------------------------------------------------

    def result(self) -> Groups:
        """Return the groups."""
        states = States(self.web, self.members)
        for node in self.members:
            cell = None if node.step is None or _looks_up(node) else states.cell_of(node)
            if cell is not None:
                self.kind[node] = cell
        self._assign_losses()
        self._assign_layers()
        groups: dict[Hashable, Group] = {}
        of: dict[Node, Group] = {}
        for node in self.members:
            key = (self.kind[node], node.step)
            group = groups.setdefault(key, Group(self.kind[node], node.step))
            group.nodes.append(node)
            of[node] = group
        for place in states.places:
            of[place[0]].states.append(place)
        links, constants = self._links(of)
        return Groups(
            tuple(groups.values()), of, links, tuple(self.terms), tuple(self.sums), self.web.weights, constants
        )

    def _assign_losses(self) -> None:
        counts: dict[Hashable, int] = {}
        for terms in self.terms:
            for node, _ in terms:
                if node in self.kind:
                    continue
                key = (node.step, node.scope)
                kind = Kind("loss", node.scope, counts.get(key, 0))
                counts[key] = kind.number + 1
                self.kind[node] = kind
                waiting = [node]
                while waiting:  # what serves this loss alone, and holds no parameter, is part of it
                    for source in self.web.inputs[waiting.pop()]:
                        inner = source.place[0] if source.place is not None else node
                        if (
                            inner in self.web.inputs
                            and inner not in self.kind
                            and not source.cuts
                            and (inner.step, inner.scope) == (node.step, node.scope)
                            and not self.web.has_weights(inner)
                            and all(self.kind.get(reader) == kind for reader in self.web.readers[inner])
                        ):
                            self.kind[inner] = kind
                            waiting.append(inner)

    def _assign_layers(self) -> None:
        """Group what is left: within a step and module, what hangs together; outside time likewise, phase by phase."""
        phases = self._phases()
        left = [node for node in self.members if node not in self.kind]
        where = {node: (node.step, node.scope, phases[node] if node.step is None else 0) for node in left}
        pairs = [
            (source.place[0], node)
            for node in left
            for source in self.web.inputs[node]
            if source.place is not None and where.get(source.place[0]) == where[node]
        ]
        counts: dict[Hashable, int] = {}
        moving: list[list[Node]] = []
        for part in components(left, pairs):
            first = part[0]
            if self._is_plain(part):
                moving.append(part)
                continue
            key = (first.step, first.scope)
            kind = Kind("layer", first.scope, counts.get(key, 0))
            counts[key] = kind.number + 1
            self.kind.update((node, kind) for node in part)
        for part in moving:
            kind_of_neighbour = self._neighbour(part)
            first = part[0]
            key = (first.step, first.scope)
            if kind_of_neighbour is None:
                kind_of_neighbour = Kind("layer", first.scope, counts.get(key, 0))
                counts[key] = kind_of_neighbour.number + 1
            self.kind.update((node, kind_of_neighbour) for node in part)

    def _is_plain(self, part: list[Node]) -> bool:
        """Return whether a part only moves elements, or, within a step, computes without parameters."""
        if part[0].step is None:
            return all(node.name in MOVING or self._scales(node) for node in part)
        return not any(self.web.has_weights(node) for node in part)

    def _scales(self, node: Node) -> bool:
        """Return whether a node multiplies by a constant, or puts 0 in some places: what dropout is made of."""
        tracked = [source for source in self.web.inputs[node] if source.place is not None]
        return node.name in SCALING and len(tracked) == 1 and not self.web.has_weights(node)

    def _neighbour(self, part: list[Node]) -> Kind | None:
        """Return the row that a plain part is drawn with: what it reads within its step, or what reads it."""
        members, step = set(part), part[0].step
        sources = [source.place[0] for node in part for source in self.web.inputs[node] if source.place is not None]
        readers = [reader for node in part for reader in self.web.readers.get(node, ())]
        for node in (*reversed(sources), *readers):
            if node not in members and node.step == step and node in self.kind:
                return self.kind[node]
        return None

    def _phases(self) -> dict[Node, int]:
        """Return how often the way to each node has left time: below a first cell 0, behind its stack 1, ...."""
        phases: dict[Node, int] = {}
        for node in self.web.inputs:
            phase = 0
            for source in self.web.inputs[node]:
                if source.place is not None and source.place[0] in phases:
                    inner = source.place[0]
                    leaves_time = node.step is None and inner.step is not None
                    phase = max(phase, phases[inner] + leaves_time)
            phases[node] = phase
        return phases

    # -- links ---------------------------------------------------------------------------------------------------------

    def _links(self, of: dict[Node, Group]) -> tuple[tuple[Link, ...], dict[Group, list[tuple[Use, Any]]]]:
        bundles: dict[tuple[Any, ...], list[Use]] = {}
        constants: dict[Group, list[tuple[Use, Any]]] = {}
        for node in self.members:
            head = of[node]
            for number, source in enumerate(self.web.inputs[node]):
                tail = of.get(source.place[0]) if source.place is not None else None
                if tail is head:
                    continue
                if source.place is None and not source.cuts:
                    constants.setdefault(head, []).append(((node, number), source.constant))
                    continue
                cuts = source.cuts
                bundles.setdefault((tail, source.place, head, cuts, None), []).append((node, number))
        for loss, (added, terms) in enumerate(zip(self.sums, map(set, self.terms), strict=True)):
            for node in sorted(added, key=lambda node: node.id):
                for number, source in enumerate(self.web.inputs[node]):
                    if source.place in terms:
                        cuts = source.cuts
                        key = (of.get(source.place[0]), source.place, None, cuts, loss)
                        bundles.setdefault(key, []).append((node, number))
        links = (
            Link(tail, place, head, tuple(u), cuts, loss) for (tail, place, head, cuts, loss), u in bundles.items()
        )
        return tuple(links), constants


def _looks_up(node: Node) -> bool:
    """Return whether a node is a lookup in a table of parameters: an embedding, not a part of the cell it feeds."""
    edge = node.edges[0] if node.edges else None
    return node.name == "take" and edge is not None and edge[0].operation is None
