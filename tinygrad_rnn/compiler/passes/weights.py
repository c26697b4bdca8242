"""Copies of weights that every step reads transposed, in the memory order in which they are read."""

from __future__ import annotations

from ..ir.editing import OpenLoop
from ..ir.graph import Graph, Rewriter
from ..ir.operators import CONTIGUOUS
from .common import is_weight


def copy_transposed(graph: Graph) -> Graph:
    """Copy transposed weights that more than three products read: products with them in memory order are faster."""
    readers: dict[object, int] = {}
    for call in graph.calls:
        if call.name == "matmul":
            readers[call.inputs[1]] = readers.get(call.inputs[1], 0) + 1
        if call.name == "loop":  # where a product reads it at each step
            loop = OpenLoop(call)
            for inner in loop.calls:
                if inner.name == "matmul" and (outer := loop.constants.get(inner.inputs[1])) is not None:
                    readers[outer] = readers.get(outer, 0) + loop.steps
    new = Rewriter(graph)
    for call in graph.calls:
        made = new.keep(call)
        if call.name == "transpose" and is_weight(call.output) and readers.get(call.output, 0) > 3:
            new.now[call.output] = new.call(CONTIGUOUS, [made.output], place=call.place).output
    return new.done() if new.now else graph
