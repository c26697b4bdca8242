"""The operations of a recorded graph that are worth drawing, what they read, and what reads them.

Left out: cuts (they are marks on an edge), stacks and unstacks of one array, and a stack that an unstack undoes (the
border between two layers). Sums of sums are one operation: x @ Wx + h @ Wh + b has one "+" with three inputs, and a
loss that is added up step by step is one sum, not a second recurrence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ...engine.tape import Node
from ...pictures.layout.components import reached
from .graph import Edge, Graph, Place, is_passage, undone_stack

MOVING = frozenset(
    ("stack", "unstack", "concatenate", "split", "reshape", "transpose", "take_along", "getitem", "broadcast_to",
     "astype", "squeeze")
)  # fmt: skip
"""Operations that only move elements."""

SCALING = frozenset(("multiply", "where"))
"""Operations of dropout: they scale their one recorded operand, or set some of its elements to 0."""

_ADDING = frozenset(("add", "subtract", "negative"))
_MIXING = frozenset(("matmul", "multiply", "sum"))


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a picture.

    Attributes:
        node: the node of its result.
        nodes: all nodes that it represents, newest first.
        step: time step; None: outside time, or a sum over steps.
        inputs: the edges that it reads.
    """

    node: Node
    nodes: tuple[Node, ...]
    step: int | None
    inputs: tuple[Edge, ...]

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.node.name

    @property
    def sources(self) -> list[Node]:
        """The nodes that it reads."""
        return [edge.source for edge in self.inputs if edge.source is not None]


def operations_of(graph: Graph) -> list[Operation]:
    """Return the operations of a graph, oldest first.

    The past of a closed cut is included as long as it is alive.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    >>> h, _ = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> ops = operations_of(read([h]))
    >>> [op.name for op in ops], len(ops[2].inputs)
    (['matmul', 'matmul', 'add', 'tanh'], 3)
    """
    readers = Counter(place[0] for place, uses in graph.uses.items() for _ in uses)
    readers.update(cut.source[0] for cut in graph.cuts.values() if cut.closed and cut.source is not None)
    final = {node for node, _ in graph.losses}
    readers.update(node for node, _ in graph.losses)
    timed = {place[0] for place, uses in graph.uses.items() if any(node.step is not None for node, _ in uses)}
    joined: set[Node] = set()  # nodes that are drawn as parts of a later one
    found: dict[Node, Operation] = {}
    for node in reversed(graph.nodes):
        if node.operation is None or node in joined or is_passage(node):
            continue
        members, inputs = [node], []
        sums_up = node in final or node not in timed
        waiting = [(node, number) for number in reversed(range(len(node.edges)))]
        while waiting:
            user, number = waiting.pop()
            edge = graph.edge(user, number)
            source = edge.source
            alone = source is not None and not edge.cuts and readers[source] == 1
            if source is not None and alone and _joins(user, source, sums_up, graph.names):
                joined.add(source)
                members.append(source)
                waiting.extend((source, n) for n in reversed(range(len(source.edges))))
            else:
                inputs.append(edge)
        step = node.step if len({member.step for member in members}) == 1 else None
        found[node] = Operation(node, tuple(members), step, tuple(inputs))
    # A stack that every reader undoes is needed by no loss.
    ends = (graph.resolve(place, place).source for place in graph.losses)
    needed = reached(
        (node for node in ends if node in found), lambda node: [n for n in found[node].sources if n in found]
    )
    return [found[node] for node in sorted(needed, key=lambda node: node.id)]


def _joins(user: Node, source: Node, sums_up: bool, names: Container[Node]) -> bool:
    """Return whether two sums are drawn as one.

    Args:
        user: the outer sum.
        source: the inner sum, which nothing else reads.
        sums_up: whether the outer sum is a loss, or is read by no operation of a step.
        names: results that have a name in the source code: those get boxes of their own.
    """
    alone = sums_up and user.specs[0].shape in ((), (1,)) and source.specs == user.specs
    weighs = source.name in ("multiply", "divide") and sum(edge is not None for edge in source.edges) == 1
    if alone and weighs and user.step is None and source.step is None:
        return user.name == "add"  # a weighted sum: a mean of losses
    if user.name != "add" or source.name != "add" or source.specs != user.specs:
        return False
    if (source.step, source.scope) == (user.step, user.scope) and source not in names:
        return True
    # A scalar that is summed over steps is an accumulated loss, whichever lines of the program do that.
    return alone and (source.step != user.step or user.step is None)


class Dataflow:
    """The operations of a graph, what they read, and what reads them.

    Attributes:
        graph: the recorded graph.
        ops: node of the result of an operation to the operation, oldest first.
        inputs: node of a result to the edges that its operation reads.
        readers: node to the results of the operations that read it.
        weights: node outside time that is computed from leaves and numbers alone, such as W.T, to these leaves.
    """

    def __init__(self, graph: Graph, ops: Iterable[Operation]) -> None:
        self.graph = graph
        self.ops = {op.node: op for op in ops}
        self.inputs = {node: tuple(map(self._through_dropout, op.inputs)) for node, op in self.ops.items()}
        self.readers: dict[Node, list[Node]] = {}
        for node in self.ops:
            for source in self.sources(node):
                self.readers.setdefault(source, []).append(node)
        self.weights: dict[Node, tuple[Node, ...]] = {}
        for node in self.ops:
            if leaves := self._leaves_alone(node):
                self.weights[node] = leaves

    def _through_dropout(self, edge: Edge) -> Edge:
        """Return an edge resolved through dropout between a stack of a sequence and the unstack that undoes it."""
        while edge.source is not None and edge.source.name == "unstack":
            inner = edge.source.edges[0]
            while inner is not None and inner[0].name in SCALING:
                tracked = [other for other in inner[0].edges if other is not None]
                if len(tracked) != 1:
                    break
                inner = tracked[0]
            stack = undone_stack(edge.source, inner)
            if stack is None:
                break
            inner_edge = self.graph.edge(stack, edge.output)
            edge = inner_edge._replace(use=edge.use, cuts=edge.cuts + inner_edge.cuts)
        return edge

    def _leaves_alone(self, node: Node) -> tuple[Node, ...]:
        """Return the leaves of an array outside time that is computed from leaves and numbers alone; else ()."""
        arrays = any(isinstance(value, np.ndarray) for value in node.attrs.values())
        if node.step is not None or arrays or not all(spec.shape for spec in node.specs):
            return ()
        leaves: list[Node] = []
        for edge in self.inputs[node]:
            found = self.leaves_of(edge.source)
            if not found and edge.number is None:
                return ()
            leaves += found
        return tuple(dict.fromkeys(leaves))

    def leaves_of(self, node: Node | None) -> tuple[Node, ...]:
        """Return a leaf itself, or the leaves that weights are computed from; () for any other node, or a constant."""
        if node is None:
            return ()
        return (node,) if node.operation is None else self.weights.get(node, ())

    def has_weights(self, node: Node) -> bool:
        """Return whether an operation reads a parameter."""
        return any(map(self.leaves_of, self.sources(node)))

    def sources(self, node: Node) -> list[Node]:
        """Return the nodes that an operation reads."""
        return [edge.source for edge in self.inputs[node] if edge.source is not None]

    def ancestors(self, starts: Iterable[Node]) -> set[Node]:
        """Return the operations from which some results are computed, themselves included."""
        return set(reached(starts, lambda node: self.sources(node) if node in self.ops else ())) & self.ops.keys()

    # -- losses -------------------------------------------------------------------------------------------------------

    def terms_of(self, loss: Place) -> tuple[list[Node], tuple[Place, ...]]:
        """Return the operations that only sum scalars on the way to a loss, and the places that they sum."""
        added: dict[Node, None] = {}
        terms: dict[Place, None] = {}
        waiting = [loss]
        while waiting:
            place = waiting.pop()
            node = place[0]
            if node in added:
                continue
            if node in self.ops and self._adds_up(node):
                added[node] = None
                waiting += [edge.place for edge in reversed(self.inputs[node]) if edge.place is not None]
            elif node.operation is not None:
                terms[place] = None
        ordered = sorted(terms, key=lambda place: (self.graph.number[place[0]], place[1]))
        return (list(added), tuple(ordered)) if ordered else ([], (loss,))

    def _adds_up(self, node: Node) -> bool:
        """Return whether an operation adds, scales or averages scalars, its own inputs or those of a stack."""
        edges = [edge for edge in self.inputs[node] if edge.source is not None]
        single = all(_is_single(node, index) for index in range(len(node.specs)))
        if not all(_is_single(edge.source, edge.output) for edge in edges if edge.source is not None):
            stack = edges[0].source if len(edges) == 1 else None
            averages = node.name in ("sum", "mean") and single
            return averages and stack is not None and stack.name == "stack" and self._adds_up(stack)
        if node.name == "stack":
            return True
        scales = node.name == "multiply" or (node.name == "divide" and self.inputs[node][0].source is not None)
        alone = len(edges) == 1 and (scales or node.name in MOVING or node.name in ("sum", "mean"))
        return single and (node.name in _ADDING or alone)

    # -- attention ----------------------------------------------------------------------------------------------------

    def attention(self, states: Iterable[Place]) -> Iterator[set[Node]]:
        """Yield the operations of each attention: a softmax, the product with its weights, and what only they need.

        Args:
            states: values that are carried from step to step; they belong to their cells.
        """
        kept = {node for node, _ in states}

        def fits(inner: Node, edge: Edge) -> bool:
            return inner not in kept and inner.step == edge.use[0].step

        for node in self.ops:
            if node.name == "exp" and self._is_softmax(node):
                found = {node}
                waiting = [node]
                while waiting:  # up to the product with the weights, and its sum
                    for reader in self.readers.get(waiting.pop(), ()):
                        mixed = any(other.name in ("matmul", "sum") for other in found)
                        if not mixed and (reader.name in MOVING or self._mixes(reader, found)):
                            found.add(reader)
                            waiting.append(reader)
                if any(len(self.sources(other)) == 2 for other in found):
                    yield self.served_alone(found, fits)

    def _mixes(self, product: Node, found: set[Node]) -> bool:
        """Return whether weights are multiplied with one other operand, which is not made of what they have mixed."""
        recorded = [edge.source for edge in self.inputs[product] if edge.source is not None]
        if product.name not in _MIXING or self.has_weights(product) or len(recorded) > 2:
            return False
        waiting = [source for source in recorded if source not in found]
        while waiting:
            source = waiting.pop()
            if source in found:
                return False
            waiting += [before for before in self.sources(source) if before.id >= min(node.id for node in found)]
        return True

    def _is_softmax(self, node: Node) -> bool:
        (source,) = self.sources(node)[:1] or [node]
        while source.name == "astype" and self.sources(source):
            source = self.sources(source)[0]
        return source.name == "log_softmax"

    def served_alone(self, found: set[Node], fits: Callable[[Node, Edge], bool]) -> set[Node]:
        """Add to `found` the operations that only it reads, if `fits` accepts them and the edge; return `found`."""
        waiting = list(found)
        while waiting:
            for edge in self.inputs[waiting.pop()]:
                source = edge.source
                if source not in self.ops or source in found or not fits(source, edge):
                    continue
                if found.issuperset(self.readers[source]):
                    found.add(source)
                    waiting.append(source)
        return found


def _is_single(node: Node, index: int) -> bool:
    return int(np.prod(node.specs[index].shape, dtype=int)) == 1
