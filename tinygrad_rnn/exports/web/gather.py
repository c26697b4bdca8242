"""Lookups that the C library does not know, as lookups of rows, which it does; and the loss without its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ... import ops
from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Call, Graph, Rewriter, Value
from ...compiler.ir.operators import ADD, CONTIGUOUS, GETITEM, MULTIPLY, TAKE_BACK, operator_of
from ...compiler.passes.common import Operands, reshaped, rewrite, rows, transposed
from ...compiler.replay.kernels import LOSS_AND_GRADIENT
from ...engine.tape import Array
from ..checks import BACKWARD_ORDER, CHECK_OF_LENGTHS, full_name
from .whole import GREATER, LESS, WHERE

_SUBTRACT, _TAKE = operator_of(ops.subtract), operator_of(ops.index._take)


def with_rows(graph: Graph) -> Graph:
    """Return a graph whose lookups are lookups of rows; that lengths lie in [1, T] is not checked there."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
    name = full_name(call.operator.compute)
    if name == CHECK_OF_LENGTHS:
        return [inputs[0]] if inputs[0].spec == call.output.spec else None
    if name == BACKWARD_ORDER and isinstance(inputs[0], Value):
        return [_backward_order(new, *inputs)]
    maker = _MAKERS.get(call.name) if call.operator.key == call.name else None
    return None if maker is None else maker(call, inputs, new)


def _constant(array: Array) -> Value:
    return Value(array.shape, array.dtype, constant=array)


def _backward_order(new: Rewriter, lengths: Value, T: int) -> Value:
    """Return the steps (N, T, 1) of each sequence from its own end; see `nn.unroll.backward_order`."""
    t = _constant(np.arange(T)[None, :, None])
    last = reshaped(new, lengths, (*lengths.shape, 1, 1))
    back = new.call(_SUBTRACT, [new.call(_SUBTRACT, [last, 1]).output, t]).output
    return new.call(WHERE, [new.call(LESS, [t, last]).output, back, t]).output


def _take(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Return a lookup along an axis as one of rows: the axis comes first, and then goes back to its place."""
    x, ids, axis = inputs[0], new.get(call.attrs["indices"]), call.attrs["axis"]
    if not isinstance(x, Value) or not isinstance(ids, Value):
        return None
    axis %= x.ndim
    if axis == 0 and ids.ndim in (1, 2):
        return None
    flat = ids if ids.ndim == 1 else reshaped(new, ids, (math.prod(ids.shape),))
    found = _looked_up(new, _ordered(new, x, [axis, *range(axis), *range(axis + 1, x.ndim)]), flat)
    found = reshaped(new, found, (*ids.shape, *found.shape[1:]))
    n = ids.ndim
    order = [*range(n, n + axis), *range(n), *range(n + axis, found.ndim)]
    return [transposed(new, found, order)]


def _take_back(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    g, ids, axis = inputs[0], new.get(call.attrs["indices"]), call.attrs["axis"]
    if not isinstance(g, Value) or not isinstance(ids, Value):
        return None
    shape, n = call.output.shape, ids.ndim
    axis %= len(shape)
    if axis == 0 and n in (1, 2):
        return None
    front = _ordered(new, g, [*range(axis, axis + n), *range(axis), *range(axis + n, g.ndim)])
    rest = (*shape[:axis], *shape[axis + 1 :])
    front, flat = (reshaped(new, part, (math.prod(ids.shape), *more)) for part, more in ((front, rest), (ids, ())))
    table = (shape[axis], *rest)
    made = new.call(TAKE_BACK, [front], {"indices": flat, "axis": 0, "shape": table}, [(table, g.dtype)]).output
    return [transposed(new, made, [*range(1, axis + 1), 0, *range(axis + 1, len(shape))])]


def _looked_up(new: Rewriter, table: Value, ids: Value) -> Value:
    return new.call(_TAKE, [table], {"indices": ids, "axis": 0}).output


def _take_along(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Return entries along an axis that the other axes choose for themselves, as rows of one table."""
    x = inputs[0]
    if not isinstance(x, Value):
        return None
    if (backward := _backward(call, x, new)) is not None:
        return backward
    way = _along(call, x.shape, call.output.shape, new)
    if way is None:
        return None
    order, table, ids = way
    found = _looked_up(new, reshaped(new, _ordered(new, x, order), table), ids)
    made = reshaped(new, found, tuple(call.output.shape[place] for place in order))
    return [transposed(new, made, np.argsort(order).tolist())]


def _take_along_back(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Return its gradient: each row is added to the one that it was taken from."""
    g, shape = inputs[0], call.output.shape
    way = _along(call, shape, g.shape, new) if isinstance(g, Value) else None
    if way is None:
        return None
    order, table, ids = way
    given = reshaped(new, _ordered(new, g, order), (*ids.shape, table[1]))
    made = new.call(TAKE_BACK, [given], {"indices": ids, "axis": 0, "shape": table}, [(table, g.dtype)]).output
    made = reshaped(new, made, tuple(shape[place] for place in order))
    return [transposed(new, made, np.argsort(order).tolist())]


def _along(
    call: Call, shape: tuple[int, ...], out: tuple[int, ...], new: Rewriter
) -> tuple[list[int], tuple[int, int], Value] | None:
    """Return the order of the axes, the shape of the table, and its row of each entry of the result; None if unknown.

    Args:
        call: take_along, or its gradient.
        shape: of what is read.
        out: of what is taken.
        new: where the arithmetic of ids goes.
    """
    ids, n = new.get(call.attrs["indices"]), len(shape)
    ids = ids if isinstance(ids, Value) else _constant(np.asarray(ids))
    axis = call.attrs["axis"] % n
    if ids.shape[:axis] != shape[:axis] or shape[:axis] != out[:axis]:
        return None
    if ids.shape[axis + 1 :] == (1,) * (n - axis - 1):  # one id for a whole row
        order, after = list(range(n)), math.prod(shape[axis + 1 :])
    elif ids.shape == out and shape[axis + 1 :] == out[axis + 1 :]:
        order, after = [*(place for place in range(n) if place != axis), axis], 1
        ids = _ordered(new, ids, order)
    else:
        return None
    before, length = math.prod(shape) // max(1, shape[axis] * after), shape[axis]
    places = reshaped(new, ids, (before, out[axis]))
    read = reshaped(new, _in_table(new, places, length), (before * out[axis],))
    return order, (before * length, after), read


def _ordered(new: Rewriter, x: Value, order: list[int]) -> Value:
    """Return x in one piece, with its axes in an order."""
    if order == sorted(order):
        return x
    return new.call(CONTIGUOUS, [transposed(new, x, order)]).output


def _in_table(new: Rewriter, ids: Value, length: int) -> Value:
    """Return rows of a table (rows of ids * length, ...) from ids of each row; one that is out of range stays so."""
    count = ids.shape[0]
    ids = new.call(WHERE, [new.call(LESS, [ids, 0]).output, new.call(ADD, [ids, length]).output, ids]).output
    start = _constant(np.arange(count)[:, None] * length)
    found = new.call(ADD, [ids, start]).output
    for comparison, bound in ((LESS, 0), (GREATER, length - 1)):
        found = new.call(WHERE, [new.call(comparison, [ids, bound]).output, count * length, found]).output
    return found


def _backward(call: Call, x: Value, new: Rewriter) -> list[Value] | None:
    """Return an axis from its end to its start, where the indices say that, as those of `bidirectional` do."""
    axis, ids = call.attrs["axis"] % x.ndim, call.attrs["indices"]
    found = ids.constant if isinstance(ids, Value) else ids
    length = x.shape[axis]
    if found is None or found.shape[axis] != length:
        return None
    wanted = np.arange(length)[::-1].reshape([-1 if place == axis else 1 for place in range(x.ndim)])
    if not np.array_equal(found, np.broadcast_to(wanted, found.shape)):
        return None
    return [new.call(GETITEM, [x], {"index": (*(slice(None),) * axis, slice(None, None, -1))}).output]


def _loss(number: int, call: Call, inputs: Operands, new: Rewriter) -> list[Value]:
    """Return the cross-entropy, or its gradient, as one result of the call that computes both."""
    logits, *cotangent = inputs
    flat, one = rows(new, logits), _constant(np.ones((), logits.dtype))
    targets = new.get(call.attrs["targets"])
    targets = targets if isinstance(targets, Value) else _constant(np.asarray(targets))
    attrs = {**call.attrs, "targets": reshaped(new, targets, flat.shape[:1])}
    found = new.call(LOSS_AND_GRADIENT, [flat, one], attrs, [((), flat.dtype), flat.spec]).outputs[number]
    return [reshaped(new, new.call(MULTIPLY, [found, *cotangent]).output, logits.shape) if cotangent else found]


_MAKERS: dict[str, Callable[[Call, Operands, Rewriter], list[Value] | None]] = {
    "take": _take,
    "take_back": _take_back,
    "take_along": _take_along,
    "take_along_back": _take_along_back,
    "cross_entropy": partial(_loss, 0),
    "cross_entropy_back": partial(_loss, 1),
}
