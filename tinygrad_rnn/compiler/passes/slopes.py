"""Derivatives of sigmoids: computed in the forward loop, where the argument of the sigmoid is still there."""

from __future__ import annotations

from ..ir.editing import OpenLoop
from ..ir.graph import Call, Graph, Value
from ..ir.table import VIEWS
from .common import attrs_key


def slopes_early(graph: Graph) -> Graph:
    """Let a forward loop compute the slopes of its sigmoids, of which the backward loop reads slices.

    The slope needs the argument of the sigmoid: in the backward loop it would require a stack of the arguments, which
    takes more memory than a stack of the slopes.
    """
    for call in graph.calls:
        if call.name != "loop":
            continue
        later = OpenLoop(call)
        now: dict[Value, Value] = {}
        for slope in later.calls:
            found = _forward(slope, later) if slope.name == "sigmoid_slope" else None
            if found is not None:
                now[slope.output] = later.slice_of(found)
        if now:
            later.substitute(now)
            later.close()
    return graph


def _forward(slope: Call, later: OpenLoop) -> Value | None:
    """Return the stack of slopes of a sigmoid, if one loop made both the sigmoid and what it was taken of."""
    y = later.slices.get(slope.inputs[0])
    if y is None or y.maker is None or y.maker.name != "loop":
        return None
    forward = OpenLoop(y.maker)
    inside = {stack: value for value, stack in forward.stacks}
    sigmoid = inside[y].maker if y in inside else None
    if sigmoid is None or sigmoid.name != "sigmoid":
        return None
    if not _is_same(slope.inputs[1], sigmoid.inputs[0], {part: inside.get(s) for part, s in later.slices.items()}):
        return None
    operands = sigmoid.output, sigmoid.inputs[0]
    made = Call(slope.operator, operands, slope.attrs, [(slope.output.shape, slope.output.dtype)])
    forward.calls.insert(forward.calls.index(sigmoid) + 1, made)
    stack = forward.stack_of(made.output)
    forward.close()
    return stack


def _is_same(part: object, value: object, inside: dict[Value, Value | None]) -> bool:
    """Return whether what a backward loop reads is a value of the forward loop, or the same view of one."""
    if not isinstance(part, Value) or not isinstance(value, Value):
        return False
    if inside.get(part) is value:
        return True
    seen, made = part.maker, value.maker
    if seen is None or made is None or seen.name not in VIEWS or seen.name != made.name:
        return False
    same = attrs_key(seen) == attrs_key(made) and part.index == value.index
    return same and _is_same(seen.inputs[0], made.inputs[0], inside)
