"""Derivatives of sigmoids, computed while what they are computed from is in cache."""

from __future__ import annotations

from ..graph import Call, Graph, Value
from .editing import OpenLoop


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


def slopes_forward(graph: Graph) -> Graph:
    """Let a forward loop compute the slopes of its sigmoids, of which the backward loop reads slices.

    Nobody else may need what the sigmoid was taken of: then it is not kept.
    """
    for call in graph.calls:
        if call.name != "loop":
            continue
        later = OpenLoop(call)
        now: dict[Value, Value] = {}
        for slope in later.calls:
            if slope.name == "sigmoid_slope":
                stacks = [later.slices.get(part) for part in slope.inputs]
                found = _forward(stacks, slope)
                if found is not None:
                    now[slope.output] = later.slice_of(found)
        if now:
            later.substitute(now)
            later.close()
    return graph


def _forward(stacks: list[Value | None], slope: Call) -> Value | None:
    """Return the stack of slopes of a sigmoid, given the stacks of its result and its operand, if one loop made both."""
    y, x = stacks
    if y is None or x is None or y.maker is None or y.maker is not x.maker or y.maker.name != "loop":
        return None
    forward = OpenLoop(y.maker)
    inside = {stack: value for value, stack in forward.stacks}
    sigmoid = inside[y].maker
    if sigmoid is None or sigmoid.name != "sigmoid" or sigmoid.inputs[0] is not inside[x]:
        return None
    made = Call(slope.operator, [inside[y], inside[x]], slope.attrs, [(slope.output.shape, slope.output.dtype)])
    forward.calls.insert(forward.calls.index(sigmoid) + 1, made)
    stack = forward.stack_of(made.output)
    forward.close()
    return stack
