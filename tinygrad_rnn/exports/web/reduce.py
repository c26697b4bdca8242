"""What the C library leaves to NumPy, as calls that it knows: extreme entries and where they are, sums over axes in the
middle, running sums, products, `logsumexp` and `log_softmax`; of real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ... import ops
from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Call, Graph, Operator, Rewriter, Value
from ...compiler.ir.operators import ADD, CONCATENATE, CONTIGUOUS, GETITEM, MULTIPLY, operator_of
from ...compiler.passes.common import Operands, axes_of, reshaped, rewrite, transposed
from ..checks import full_name, setting
from .whole import ASTYPE, EQUAL, NOT_EQUAL, WHERE

_EXTREMES = {"max": operator_of(ops.maximum), "min": operator_of(ops.minimum)}
_RUNNING = {"cumsum": ADD, "cumprod": MULTIPLY}


def with_known_reductions(graph: Graph) -> Graph:
    """Return a graph in which these are made of other calls."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
    x = inputs[0] if inputs else None
    if not isinstance(x, Value) or x.dtype.kind != "f":
        return None
    if full_name(call.operator.compute) in ("numpy.argmax", "numpy.argmin"):
        return _positions(call, x, new)
    if call.operator.key != call.name or len(inputs) != 1 or 0 in x.shape:
        return None
    if call.name in ("sum", "mean"):
        return _total(call, x, new)
    if call.name in _RUNNING:
        return _running(call, x, new)
    if call.name == "prod":
        return _product(call, x, new)
    if call.name in ("log_softmax", "logsumexp"):
        return _along_rows(call, x, new)
    return _extremes(call, x, new) if call.name in _EXTREMES else None


def _extremes(call: Call, x: Value, new: Rewriter) -> list[Value]:
    axes = axes_of(call)
    x, axis = (x, axes[0]) if len(axes) == 1 else (_rows(new, x, axes), 1)
    return [reshaped(new, _extreme(new, _EXTREMES[call.name], x, axis), call.output.shape)]


def _along_rows(call: Call, x: Value, new: Rewriter) -> list[Value]:
    """Return a log-softmax or a log-sum-exp over any axes as one along rows, which the library knows."""
    axes = axes_of(call)
    made = new.call(call.operator, [_rows(new, x, axes)], {**call.attrs, "axis": -1}).output
    if call.name == "logsumexp":
        return [reshaped(new, made, call.output.shape)]
    order = [*(axis for axis in range(x.ndim) if axis not in axes), *axes]
    made = reshaped(new, made, tuple(x.shape[axis] for axis in order))
    return [transposed(new, made, np.argsort(order).tolist())]


def _rows(new: Rewriter, x: Value, axes: Sequence[int]) -> Value:
    """Return x in one piece as a matrix, with what lies along these axes as its rows."""
    x = _with_last(new, x, axes)
    columns = math.prod(x.shape[x.ndim - len(axes) :])
    return reshaped(new, x, (math.prod(x.shape) // columns, columns))


def _positions(call: Call, x: Value, new: Rewriter) -> list[Value] | None:
    """Return where the first largest or smallest entry of an axis is, or the first NaN, as NumPy counts them."""
    given = setting(call, 1, "axis")
    if 0 in x.shape:
        return None
    if given is None:
        x = reshaped(new, x, (math.prod(x.shape),))
    axis = given % x.ndim if isinstance(given, int) else 0
    top = _extreme(new, _EXTREMES[call.operator.name[3:]], x, axis)
    n = x.shape[axis]
    count = np.arange(n, dtype=np.float64).reshape([-1 if place == axis else 1 for place in range(x.ndim)])
    places = Value(count.shape, count.dtype, constant=count)
    shape = (x.shape, count.dtype)
    found = new.call(WHERE, [new.call(EQUAL, [x, top]).output, places, float(n)], specs=[shape]).output
    found = new.call(WHERE, [new.call(NOT_EQUAL, [x, x]).output, places, found], specs=[shape]).output
    first = _extreme(new, _EXTREMES["min"], found, axis)
    return [new.call(ASTYPE, [reshaped(new, first, call.output.shape)], {"dtype": call.output.dtype}).output]


def _total(call: Call, x: Value, new: Rewriter) -> list[Value] | None:
    """Return a sum or a mean over axes that are neither the first nor the last ones: they become the last.

    Parts of an array, which may have gaps, are copied.
    """
    axes = sorted(axes_of(call))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    if axes == list(range(len(axes))) or axes == list(range(len(kept), x.ndim)):
        if x.maker is None or x.maker.name != "getitem":
            return None
        return [new.call(call.operator, [new.call(CONTIGUOUS, [x]).output], call.attrs).output]
    attrs = {"axis": tuple(range(len(kept), x.ndim)), "keepdims": False}
    made = new.call(call.operator, [_with_last(new, x, axes)], attrs).output
    return [reshaped(new, made, call.output.shape)]


def _with_last(new: Rewriter, x: Value, axes: Sequence[int]) -> Value:
    """Return x in one piece, with these axes after all others."""
    order = [*(axis for axis in range(x.ndim) if axis not in axes), *axes]
    return new.call(CONTIGUOUS, [transposed(new, x, order)]).output


def _running(call: Call, x: Value, new: Rewriter) -> list[Value]:
    """Return running sums or products: of 2, 4, 8, ... entries, each of two of half as many."""
    operator, axis = _RUNNING[call.name], call.attrs["axis"] % x.ndim
    before = (slice(None),) * axis
    span = 1
    while span < x.shape[axis]:
        parts = (slice(0, span), slice(span, None), slice(0, -span))
        start, right, left = (new.call(GETITEM, [x], {"index": (*before, part)}).output for part in parts)
        x = new.call(CONCATENATE, [start, new.call(operator, [left, right]).output], {"axis": axis}).output
        span *= 2
    return [x]


def _product(call: Call, x: Value, new: Rewriter) -> list[Value]:
    """Return the product over axes, half of them times the other half."""
    x = _rows(new, x, axes_of(call))
    while (length := x.shape[1]) > 1:
        half = length // 2
        parts = [slice(0, half), slice(half, 2 * half)] + [slice(2 * half, length)] * (length % 2)
        left, right, *odd = (new.call(GETITEM, [x], {"index": (slice(None), part)}).output for part in parts)
        x = new.call(MULTIPLY, [left, right]).output
        if odd:
            x = new.call(CONCATENATE, [x, *odd], {"axis": 1}).output
    return [reshaped(new, x, call.output.shape)]


def _extreme(new: Rewriter, operator: Operator, x: Value, axis: int) -> Value:
    """Return the extreme entry along an axis, of length 1 then: half against half, which may overlap in the middle."""
    before = (slice(None),) * (axis % x.ndim)
    while (length := x.shape[axis]) > 1:
        half = -(-length // 2)
        parts = [slice(0, half), slice(length - half, length)]
        x = new.call(operator, [new.call(GETITEM, [x], {"index": (*before, part)}).output for part in parts]).output
    return x
