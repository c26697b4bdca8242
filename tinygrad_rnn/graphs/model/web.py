"""The recorded graph with its plumbing looked through: where each operation reads from, and who reads it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...engine.tape import Node
from .graph import Edge, Graph, undone_stack

MOVING = frozenset(
    [
        "stack",
        "unstack",
        "concatenate",
        "split",
        "reshape",
        "transpose",
        "take_along",
        "getitem",
        "broadcast_to",
        "astype",
        "squeeze",
    ]
)
"""Operations that only move elements."""

SCALING = frozenset(["multiply", "where"])
"""Operations of dropout: with one recorded operand they scale it, or put 0 in some places."""


class Kind(NamedTuple):
    """What groups of different steps have in common: one row of the picture.

    Attributes:
        role: "cell", "layer" (a head, an embedding, ...) or "loss".
        scope: the module that it was recorded in.
        number: tells rows of one role and scope apart.
    """

    role: str
    scope: tuple[str, ...]
    number: int


class Web:
    """Who reads what.

    Attributes:
        graph: the graph.
        inputs: operation to where its inputs come from.
        readers: node to the operations that read it.
        weights: node outside time that is computed from leaves and numbers alone, such as W.T, to these leaves.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs: dict[Node, tuple[Edge, ...]] = {}
        self.readers: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            if node.operation is None or node in graph.cuts:
                continue
            found = tuple(self._edge(node, number) for number in range(len(node.edges)))
            self.inputs[node] = found
            for source in found:
                if source.place is not None:
                    self.readers.setdefault(source.place[0], []).append(node)
        self.weights = self._find_weights()

    def _edge(self, node: Node, number: int) -> Edge:
        """Return what an input reads, stacks that an unstack undoes after dropout looked through too."""
        edge = self.graph.edge(node, number)
        while edge.source is not None and edge.source.name == "unstack":
            inner = edge.source.edges[0]
            while inner is not None and inner[0].name in SCALING:  # dropout between two layers
                tracked = [other for other in inner[0].edges if other is not None]
                if len(tracked) != 1:
                    break
                inner = tracked[0]
            stack = undone_stack(edge.source, inner)
            if stack is None:
                break
            behind = self.graph.edge(stack, edge.output)
            edge = behind._replace(use=edge.use, cuts=edge.cuts + behind.cuts)
        return edge

    def _find_weights(self) -> dict[Node, tuple[Node, ...]]:
        """Return nodes outside time that are computed from leaves and numbers alone, such as W.T."""
        found: dict[Node, tuple[Node, ...]] = {}
        for node, inputs in self.inputs.items():
            if node.step is not None or any(isinstance(value, np.ndarray) for value in node.attrs.values()):
                continue
            leaves: list[Node] = []
            for source in inputs:
                if source.place is None:
                    if not isinstance(source.constant, int | float | np.ndarray) or np.ndim(source.constant):
                        break
                elif source.place[0].operation is None:
                    leaves.append(source.place[0])
                elif source.place[0] in found:
                    leaves += found[source.place[0]]
                else:
                    break
            else:
                if leaves and all(spec.shape for spec in node.specs):
                    found[node] = tuple(dict.fromkeys(leaves))
        return found

    def has_weights(self, node: Node) -> bool:
        """Return whether an operation reads a parameter."""
        return any(
            source.place is not None and (source.place[0].operation is None or source.place[0] in self.weights)
            for source in self.inputs[node]
        )

    def sources(self, node: Node) -> list[Node]:
        """Return the nodes that an operation reads."""
        return [source.place[0] for source in self.inputs[node] if source.place is not None]
