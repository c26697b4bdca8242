"""Blocks of a recorded graph, which all views share: cells, attentions, layers and losses.

Nothing in a recording marks where a cell begins, since a user's cell can be any function. So blocks are inferred: a
value that another step reads is a state; the operations that lead to it within its step are its cell; states that
depend on each other in a cycle belong to one cell; a softmax that weights values is an attention; what is computed from
a cell and not read by a later step is a layer; a scalar that is only summed on its way to the loss is the loss of its
step. Operations outside time (on a whole sequence) are grouped by the module in which they were recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ...engine.tape import Node
from ...pictures.layout.components import components, cycles
from .graph import Edge, Graph, Place, Use
from .names import SiteKey, Spot, maker_of, spots_of
from .operations import MOVING, SCALING, Dataflow, Operation, operations_of


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


@dataclass(eq=False)
class Block:
    """Operations that belong together.

    Attributes:
        kind: what it has in common with blocks of other steps.
        step: as recorded; None: on the whole sequence.
        ops: oldest first.
        states: its places that later steps read (or would read, in the last step).
    """

    kind: Kind
    step: int | None
    ops: list[Operation] = field(default_factory=list)
    states: list[Place] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The module in which it was recorded, or else the class of a cell, or its role."""
        lookup = self.kind.role == "layer" and any(_looks_up(op.node) for op in self.ops)
        role = "embedding" if lookup else {"layer": "output"}.get(self.kind.role, self.kind.role)
        made = maker_of(self.states[-1][0]) if self.kind.role == "cell" else ""
        return ".".join(self.kind.scope) or made or role

    @cached_property
    def nodes(self) -> list[Node]:
        """All its nodes, oldest first."""
        return sorted((node for op in self.ops for node in op.nodes), key=lambda node: node.id)


@dataclass(frozen=True, eq=False)
class Link:
    """All edges that carry one value to one block.

    Attributes:
        tail: the block that made the value; None for a parameter or a constant.
        place: the value; None: a constant, or freed by a closed cut.
        head: the block that reads it; None: the total loss `loss`.
        uses: where it is read.
        cuts: cut nodes on the way, the nearest to the reader first.
        loss: number of the loss of which it carries a term; None: it leads to a block.
    """

    tail: Block | None
    place: Place | None
    head: Block | None
    uses: tuple[Use, ...]
    cuts: tuple[Node, ...] = ()
    loss: int | None = None


class Blocks:
    """The blocks of a graph.

    Args:
        graph: what was recorded.

    Attributes:
        blocks: oldest first.
        of: node to its block; leaves, cuts, and nodes that add up a loss are in none.
        links: between blocks, and from parameters (a leaf, or a value computed from leaves alone) to blocks.
        terms: for each loss, the places that it sums; the loss itself if it is no sum.
        sums: for each loss, the nodes that add up its terms.
        flow: what the operations read, and which values are computed from leaves alone.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> outputs, _ = tr.unroll(cell, np.ones((1, 4, 2)))
    >>> found = Blocks(read([np.sum(outputs * outputs)]))
    >>> [(block.kind.role, block.step, len(block.states)) for block in found.blocks]
    [('cell', 0, 2), ('cell', 1, 2), ('cell', 2, 2), ('cell', 3, 2), ('loss', None, 0)]
    """

    def __init__(self, graph: Graph) -> None:
        self.flow = flow = Dataflow(graph, operations_of(graph))
        found = [flow.terms_of(loss) for loss in graph.losses]
        self.terms = tuple(terms for _, terms in found)
        self.sums = tuple(frozenset(node for result in added for node in flow.ops[result].nodes) for added, _ in found)
        sums = {node for added, _ in found for node in added}
        used = flow.ancestors([*sums, *(node for terms in self.terms for node, _ in terms)])
        members = [node for node in flow.ops if node in used and node not in sums and node not in flow.weights]
        states = _States(flow, members)
        kinds = _Sorter(flow, members, states).kinds(self.terms)
        blocks: dict[Hashable, Block] = {}
        self.of: dict[Node, Block] = {}
        for node in members:
            block = blocks.setdefault((kinds[node], node.step), Block(kinds[node], node.step))
            block.ops.append(flow.ops[node])
            self.of.update((member, block) for member in flow.ops[node].nodes)
        for place in states.places:
            self.of[place[0]].states.append(place)
        self.blocks = tuple(blocks.values())
        self.links = _links(flow, members, self.of, found)

    def constants(self, block: Block) -> list[Edge]:
        """Return the edges from constants to a block, without those whose past was freed by a cut."""
        edges = (edge for op in block.ops for edge in self.flow.inputs[op.node])
        return [edge for edge in edges if edge.source is None and not edge.cuts]


class _States:
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
        rows: dict[tuple[str, ...], list[set[SiteKey]]] = {}
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


class _Sorter:
    """The assignment of operations to kinds of blocks."""

    def __init__(self, flow: Dataflow, members: Sequence[Node], states: _States) -> None:
        self.flow, self.members, self.states = flow, members, states
        self.kind: dict[Node, Kind] = {}
        self.counts: dict[Hashable, int] = {}

    def kinds(self, losses: Iterable[Iterable[Place]]) -> dict[Node, Kind]:
        """Return the kind of block of each operation.

        Args:
            losses: for each loss, the places that it adds up.
        """
        for found in self.flow.attention(self.states.places):
            first = next(node for node in self.members if node in found)
            kind = self._new("attention", first)
            self.kind.update((node, kind) for node in found if node not in self.kind)
        for node in self.members:
            cell = None if node.step is None or _looks_up(node) else self.states.cell_of(node)
            if cell is not None:
                self.kind.setdefault(node, cell)
        for terms in losses:
            for node, _ in terms:
                if node not in self.kind:
                    self._loss(node)
        self._layers()
        return self.kind

    def _new(self, role: str, node: Node) -> Kind:
        """Return a new kind for the block of a node, numbered within its role, step and module."""
        key = (role, node.step, node.scope)
        number = self.counts[key] = self.counts.get(key, -1) + 1
        return Kind(role, node.scope, number)

    def _loss(self, node: Node) -> None:
        """Put a loss into a block of its own, with operations that only it needs and that read no parameter."""

        def fits(inner: Node, edge: Edge) -> bool:
            beside = (inner.step, inner.scope) == (node.step, node.scope)
            return beside and inner not in self.kind and not edge.cuts and not self.flow.has_weights(inner)

        kind = self._new("loss", node)
        self.kind.update((member, kind) for member in self.flow.served_alone({node}, fits))

    def _layers(self) -> None:
        """Group the rest: connected operations of one step and module, or, outside time, of one module and phase."""
        phases = self._phases()
        left = [node for node in self.members if node not in self.kind]
        where = {node: (node.step, node.scope, phases[node] if node.step is None else 0) for node in left}
        pairs = [
            (source, node) for node in left for source in self.flow.sources(node) if where.get(source) == where[node]
        ]
        found = components(left, pairs)
        for part in found:
            if not self._is_plain(part):
                kind = self._new("layer", part[0])
                self.kind.update((node, kind) for node in part)
        for part in found:
            if part[0] not in self.kind:
                kind = self._neighbour(part) or self._new("layer", part[0])
                self.kind.update((node, kind) for node in part)

    def _is_plain(self, part: list[Node]) -> bool:
        """Return whether a part is no layer: it reads no parameter or, outside time, only moves or scales elements."""
        if part[0].step is None:
            return all(node.name in MOVING or self._scales(node) for node in part)
        return not any(self.flow.has_weights(node) for node in part)

    def _scales(self, node: Node) -> bool:
        """Return whether a node multiplies by a constant, or sets some elements to 0, as dropout does."""
        return node.name in SCALING and len(self.flow.sources(node)) == 1 and not self.flow.has_weights(node)

    def _neighbour(self, part: list[Node]) -> Kind | None:
        """Return the kind of a block that a plain part reads within its step, or else of one that reads it."""
        members, step = set(part), part[0].step
        sources = [source for node in part for source in self.flow.sources(node)]
        readers = [reader for node in part for reader in self.flow.readers.get(node, ())]
        for node in (*reversed(sources), *readers):
            if node not in members and node.step == step and node in self.kind:
                return self.kind[node]
        return None

    def _phases(self) -> dict[Node, int]:
        """Return how often the path to each node leaves the steps: 0 below the first cell, 1 after its stack, etc."""
        phases: dict[Node, int] = {}
        for node in self.flow.ops:
            before = [(phases[source], source) for source in self.flow.sources(node) if source in phases]
            phases[node] = max(
                (phase + (node.step is None and source.step is not None) for phase, source in before), default=0
            )
        return phases


def _looks_up(node: Node) -> bool:
    """Return whether a node looks up rows of a parameter: it is an embedding, not a part of the cell that reads it."""
    edge = node.edges[0] if node.edges else None
    return node.name == "take" and edge is not None and edge[0].operation is None


_Ends = tuple[Block | None, Place | None, Block | None, tuple[Node, ...], int | None]
"""Tail, place, head, cuts and loss of a link; uses that share them are one link."""


def _links(
    flow: Dataflow,
    members: Iterable[Node],
    of: Mapping[Node, Block],
    losses: Iterable[tuple[Iterable[Node], Collection[Place]]],
) -> tuple[Link, ...]:
    """Return the links between blocks, and from parameters to blocks."""
    bundles: dict[_Ends, list[Use]] = {}
    for node in members:
        head = of[node]
        for edge in flow.inputs[node]:
            tail = None if edge.source is None else of.get(edge.source)
            if tail is not head and (edge.source is not None or edge.cuts):
                bundles.setdefault((tail, edge.place, head, edge.cuts, None), []).append(edge.use)
    for loss, (added, terms) in enumerate(losses):
        for node in sorted(added, key=lambda node: node.id):
            for edge in flow.inputs[node]:
                if edge.source is not None and (edge.source, edge.output) in terms:
                    key = (of.get(edge.source), edge.place, None, edge.cuts, loss)
                    bundles.setdefault(key, []).append(edge.use)
    return tuple(
        Link(tail, place, head, tuple(uses), cuts, loss) for (tail, place, head, cuts, loss), uses in bundles.items()
    )
