"""The operations of a recorded graph that are worth drawing, and the edges between them.

Left out: cuts (they are marks on an edge), stacks and unstacks of one array, and a stack that an unstack undoes (the
border between two layers). Sums of sums are one operation: x @ Wx + h @ Wh + b has one "+" with three inputs, and a
loss that is added up step by step is one sum, not a second recurrence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from ...engine.tape import Node
from ...pictures.layout.components import reached
from .graph import Edge, Graph, is_passage


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
