"""Sources and readers of the operations of a recorded graph, resolved through dropout between layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ...engine.tape import Node
from ...pictures.layout.components import reached
from .graph import Edge, Graph, Place, undone_stack
from .operations import Operation

MOVING = frozenset(
    ("stack", "unstack", "concatenate", "split", "reshape", "transpose", "take_along", "getitem", "broadcast_to",
     "astype", "squeeze")
)  # fmt: skip
"""Operations that only move elements."""

SCALING = frozenset(("multiply", "where"))
"""Operations of dropout: they scale their one recorded operand, or set some of its elements to 0."""

_ADDING = frozenset(("add", "subtract", "negative"))
_MIXING = frozenset(("matmul", "multiply", "sum"))


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
                        recorded = [edge for edge in self.inputs[reader] if edge.source is not None]
                        weighs = reader.name in _MIXING and not self.has_weights(reader)
                        mixed = any(other.name in ("matmul", "sum") for other in found)
                        if not mixed and ((weighs and len(recorded) <= 2) or reader.name in MOVING):
                            found.add(reader)
                            waiting.append(reader)
                if any(len(self.sources(other)) == 2 for other in found):
                    yield self.served_alone(found, fits)

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
