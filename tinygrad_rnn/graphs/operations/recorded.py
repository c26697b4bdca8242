"""The backward pass of a graph, recorded: run on values that record, so that each operation of a rule is a node."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...engine.tape import Array, Node, enable_grad, watching
from ...engine.tensor import Tensor, tensor, wrap
from ...engine.walk import pull_back
from ..model.graph import Graph


@dataclass
class RecordedBackward:
    """What the backward pass recorded.

    Attributes:
        by: forward node to the nodes that its rule made, oldest first.
        arrives: forward node to the nodes that add up what comes back to it, oldest first.
        values: node to its array.
        sent: (node, number of its input) to the node that is the cotangent its rule sent there (None: a constant).
        seeds: the leaves that the pass starts from, one for each loss.
    """

    by: dict[Node, list[Node]] = field(default_factory=dict)
    arrives: dict[Node, list[Node]] = field(default_factory=dict)
    values: dict[Node, Array] = field(default_factory=dict)
    sent: dict[tuple[Node, int], Node | None] = field(default_factory=dict)
    seeds: list[Node] = field(default_factory=list)


def record_backward(graph: Graph) -> RecordedBackward:
    """Run the backward pass of a graph's losses with its rules recorded, and return what each rule made.

    >>> import tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> x = tr.tensor(2.0, requires_grad=True)
    >>> y = tr.tanh(x)
    >>> [node.name for node in record_backward(read([y])).by[y.node]]
    ['multiply', 'subtract', 'multiply']
    """
    made = RecordedBackward()
    fresh: list[Node] = []
    seeds: list[tuple[tuple[Node, int], Tensor]] = []
    known: dict[tuple[Node, int], int] = {}  # place to how many cotangents have come back to it
    pending: list[Node] = []  # the place whose sum is recorded next

    def watch(node: Node, outputs: tuple[Array, ...]) -> None:
        made.values[node] = outputs[0]
        if pending and node.name == "add":
            made.arrives.setdefault(pending.pop(), []).append(node)
        else:
            fresh.append(node)

    def observe(node: Node, number: int, cotangent: Tensor) -> None:
        made.by.setdefault(node, []).extend(fresh)
        fresh.clear()
        pending.clear()
        made.sent[node, number] = cotangent.node if isinstance(cotangent, Tensor) else None
        place = node.edges[number]
        assert place is not None
        known[place] = known.get(place, 0) + 1
        if known[place] > 1:
            pending.append(place[0])

    for place in graph.losses:
        spec = place[0].specs[place[1]]
        # The seed is a leaf: then rules that only hand it on, or multiply it, are recorded too.
        seed = tensor(np.ones(spec.shape, spec.dtype), requires_grad=True, name="1")
        assert seed.node is not None
        made.seeds.append(seed.node)
        made.values[seed.node] = seed.data
        seeds.append((place, seed))
        known[place] = known.get(place, 0) + 1
    with enable_grad(), watching(watch):
        pull_back(seeds, lift=lambda array, place: wrap(array, *place), observe=observe)
    return made
