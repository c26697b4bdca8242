"""The backward view: a graph, and beside it the graph of its own backward pass, level by level.

The backward pass is run with its rules on values that record, so each multiplication that a derivative rule does is a
node. Each operation has a level of its own; to its right stands what its rule made, values flowing down on the left,
cotangents up on the right. A thin line crosses over where a rule reads an array that going forward kept for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...engine.tape import Array, Node, enable_grad, watching
from ...engine.tensor import Tensor, tensor, wrap
from ...engine.walk import pull_back
from ...errors import DrawingError
from ...pictures.scene.scene import Scene
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.operations import operations_of
from ..options import Options
from .chart import chart_of
from .facing import facing
from .mirror import Made, Mirror
from .view import LIMIT, chosen_step


def record_backward(graph: Graph) -> Made:
    """Run the backward pass of a graph's losses with its rules recorded, and return what each rule made.

    >>> import tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> x = tr.tensor(2.0, requires_grad=True)
    >>> y = tr.tanh(x)
    >>> [node.name for node in record_backward(read([y])).by[y.node]]
    ['multiply', 'subtract', 'multiply']
    """
    made = Made()
    fresh: list[Node] = []
    seeds: list[tuple[tuple[Node, int], Any]] = []
    known: dict[tuple[Node, int], int] = {}  # place to how many cotangents have come back to it
    pending: list[Node] = []  # the place whose sum is recorded next

    def watch(node: Node, outputs: tuple[Array, ...]) -> None:
        made.values[node] = outputs[0]
        if pending and node.name == "add":
            made.arrives.setdefault(pending.pop(), []).append(node)
        else:
            fresh.append(node)

    def observe(node: Node, number: int, cotangent: Any) -> None:
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


def backward(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the picture of a graph (one step of it, if it has steps) beside the graph of its backward pass.

    Args:
        graph: what was recorded.
        flow: its gradient; None: lines show no magnitude.
        options: `steps` says which step, counted from 1; None: the second.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
        GradientError: if the graph was consumed by an earlier backward().
    """
    ops = operations_of(graph)
    step = chosen_step("backward", ops, options)
    chosen = [op for op in ops if step is None or op.step == step]
    chart = chart_of(graph, flow, ops, {op.id for op in chosen})
    if len(chart.figures) * 3 > LIMIT:
        raise DrawingError(
            f'draw: view="backward" would draw about {3 * len(chart.figures)} boxes, more than {LIMIT}; record the '
            "steps with unroll or at_step(t), and draw one of them (steps=1)"
        )
    mirror = Mirror(graph, flow, chart, chosen, record_backward(graph))
    count = sum(figure.kind == "operation" for figure in mirror.chart.figures.values())
    facts = [] if step is None else [f"step t = {step + 1}"]
    facts += [f"{len(chosen)} operations forward, {count} backward", *filter(None, [options.note])]
    scene = Scene(options.title or "forward and backward", " · ".join(facts))
    front = {op.id: f"n{graph.number[op.node]}" for op in chosen}
    facing(scene, chart, mirror, chosen, front, flow is not None)
    return scene
