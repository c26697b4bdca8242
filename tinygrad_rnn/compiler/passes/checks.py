"""Checks of ids at the start of a plan: they run in Python, and would interrupt the C library later on."""

from __future__ import annotations

from ..ir.graph import Graph, Value


def checks_first(graph: Graph) -> Graph:
    """Move functions that compute integers from arguments alone (checks of ids and targets) to the front."""
    known: set[Value] = {*graph.inputs, *graph.captured}
    front, rest = [], []
    for call in graph.calls:
        early = not isinstance(call.operator.key, str) and all(
            value in known or value.constant is not None for value in call.values()
        )
        if early and all(value.dtype.kind in "iu" for value in call.outputs):
            known.update(call.outputs)
            front.append(call)
        else:
            rest.append(call)
    return graph.with_calls([*front, *rest]) if front else graph
