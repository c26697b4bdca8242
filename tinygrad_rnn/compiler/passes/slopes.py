"""Sigmoids in loops and their derivatives, both computed from one number that the forward loop returns.

For y = sigmoid(x) the backward loop reads y and y * (1 - y). Where y is close to 1, 1 - y has lost its digits, so y
alone is not enough. The tail of the sigmoid, y if y <= 1/2, else y - 1, keeps them all.
"""

from __future__ import annotations

import numpy as np

from ...engine.tape import Array
from ..ir.editing import OpenLoop
from ..ir.graph import Call, Graph, Operator, Rewriter, Value
from ..ir.table import VIEWS
from .common import attrs_key


def _tail(x: Array, /, *, out: Array | None = None) -> Array:
    """Return sigmoid(x), or sigmoid(x) - 1 if x > 0; never 0, so that the sign tells which."""
    minus = np.negative(x)
    e = np.minimum(x, minus, out=out)
    with np.errstate(under="ignore"):
        e = np.asarray(np.exp(e, out=out))
    np.divide(e, e + 1, out=e)
    np.maximum(e, np.finfo(e.dtype).tiny, out=e)
    return np.asarray(np.copysign(e, minus, out=e))


def _sigmoid(tail: Array, /, *, out: Array | None = None) -> Array:
    return np.asarray(np.subtract(tail, np.floor(tail), out=out))


def _slope(tail: Array, /, *, out: Array | None = None) -> Array:
    smaller = np.abs(tail)
    return np.asarray(np.multiply(smaller, 1 - smaller, out=out))


TAIL = Operator("sigmoid_tail", _tail, True)
SIGMOID = Operator("tail_sigmoid", _sigmoid, True)
SLOPE = Operator("tail_slope", _slope, True)


def slopes_early(graph: Graph) -> Graph:
    """Let a forward loop return the tails of its sigmoids, if a backward loop needs their slopes.

    A slope as recorded reads the sigmoid and its argument: two stacks instead of one.
    """
    changed = False
    for call in graph.calls:
        if call.name != "loop":
            continue
        later = OpenLoop(call)
        now: dict[Value, Value] = {}
        new = Rewriter(graph)
        for slope in later.calls:
            tails = _tails(slope, later) if slope.name == "sigmoid_slope" else None
            if tails is None:
                continue
            tail, y = later.slice_of(tails), slope.inputs[0]
            now[slope.output] = new.call(SLOPE, [tail]).output
            if y not in now:
                now[y] = new.call(SIGMOID, [tail]).output
        if now:
            later.substitute(now)
            later.calls = [*new.calls, *later.calls]
            later.close()
            changed = True
    return graph.with_calls(graph.calls) if changed else graph


def _tails(slope: Call, later: OpenLoop) -> Value | None:
    """Return the stack of a sigmoid's tails, if one forward loop computed the sigmoid and its argument; else None."""
    y = later.slices.get(slope.inputs[0])
    if y is None or y.maker is None or y.maker.name != "loop":
        return None
    forward = OpenLoop(y.maker)
    inside = {stack: value for value, stack in forward.stacks}
    sigmoid = inside[y].maker if y in inside else None
    if sigmoid is None or sigmoid.name not in ("sigmoid", SIGMOID.name) or y.dtype.kind != "f":
        return None
    # The call of TAIL, if an earlier slope of this sigmoid has already put it in.
    known = sigmoid.inputs[0].maker if sigmoid.name == SIGMOID.name else None
    x = sigmoid.inputs[0] if known is None else known.inputs[0]
    if not _is_same(slope.inputs[1], x, {part: inside.get(s) for part, s in later.slices.items()}):
        return None
    if known is None:
        known = Call(TAIL, [x], {}, [sigmoid.output.spec], sigmoid.place)
        forward.calls.insert(forward.calls.index(sigmoid), known)
        sigmoid.operator, sigmoid.inputs = SIGMOID, (known.output,)
    stack = forward.stack_of(known.output)
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
