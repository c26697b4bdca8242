"""Derivatives of sigmoids, computed while what they are computed from is in cache."""

from __future__ import annotations

from ..graph import Call, Graph, Value


def slopes_early(graph: Graph) -> Graph:
    """Compute the slope of a sigmoid right after the sigmoid itself.

    The slope needs what the sigmoid was taken of. Left in the backward pass it would keep that for each step: more
    memory than the slope, which is read once.
    """
    early: dict[Call, list[Call]] = {}
    for call in graph.calls:
        y = call.inputs[0] if call.name == "sigmoid_slope" else None
        if (
            isinstance(y, Value)
            and y.maker is not None
            and y.maker.name == "sigmoid"
            and y.maker.inputs == call.inputs[1:]
        ):
            early.setdefault(y.maker, []).append(call)
    moved = {call for calls in early.values() for call in calls}
    return graph.with_calls([one for call in graph.calls if call not in moved for one in (call, *early.get(call, ()))])
