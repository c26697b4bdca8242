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

from ...engine.tape import Node
from ...pictures.layout.components import components
from .dataflow import MOVING, SCALING, Dataflow
from .formula import maker_of
from .graph import Edge, Graph, Place, Use
from .operations import Operation, operations_of
from .states import Kind, States


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


@dataclass(frozen=True)
class Blocks:
    """The blocks of a graph.

    Attributes:
        blocks: oldest first.
        of: node to its block; leaves, cuts, and nodes that add up a loss are in none.
        links: between blocks, and from parameters (a leaf, or a value computed from leaves alone) to blocks.
        terms: for each loss, the places that it sums; the loss itself if it is no sum.
        sums: for each loss, the nodes that add up its terms.
        flow: what the operations read, and which values are computed from leaves alone.
    """

    blocks: tuple[Block, ...]
    of: dict[Node, Block]
    links: tuple[Link, ...]
    terms: tuple[tuple[Place, ...], ...]
    sums: tuple[frozenset[Node], ...]
    flow: Dataflow

    def constants(self, block: Block) -> list[Edge]:
        """Return the edges from constants to a block, without those whose past was freed by a cut."""
        edges = (edge for op in block.ops for edge in self.flow.inputs[op.node])
        return [edge for edge in edges if edge.source is None and not edge.cuts]


def find_blocks(graph: Graph) -> Blocks:
    """Return the blocks of a graph.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> outputs, _ = tr.unroll(cell, np.ones((1, 4, 2)))
    >>> found = find_blocks(read([np.sum(outputs * outputs)]))
    >>> [(block.kind.role, block.step, len(block.states)) for block in found.blocks]
    [('cell', 0, 2), ('cell', 1, 2), ('cell', 2, 2), ('cell', 3, 2), ('loss', None, 0)]
    """
    flow = Dataflow(graph, operations_of(graph))
    found = [flow.terms_of(loss) for loss in graph.losses]
    sums = {node for added, _ in found for node in added}
    used = flow.ancestors([*sums, *(node for _, terms in found for node, _ in terms)])
    members = [node for node in flow.ops if node in used and node not in sums and node not in flow.weights]
    states = States(flow, members)
    kinds = _Sorter(flow, members, states).kinds([terms for _, terms in found])
    blocks: dict[Hashable, Block] = {}
    of: dict[Node, Block] = {}
    for node in members:
        block = blocks.setdefault((kinds[node], node.step), Block(kinds[node], node.step))
        block.ops.append(flow.ops[node])
        of.update((member, block) for member in flow.ops[node].nodes)
    for place in states.places:
        of[place[0]].states.append(place)
    nodes = (frozenset(node for result in added for node in flow.ops[result].nodes) for added, _ in found)
    terms = tuple(terms for _, terms in found)
    return Blocks(tuple(blocks.values()), of, _links(flow, members, of, found), terms, tuple(nodes), flow)


class _Sorter:
    """The assignment of operations to kinds of blocks."""

    def __init__(self, flow: Dataflow, members: Sequence[Node], states: States) -> None:
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
