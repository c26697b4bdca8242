"""What the C library leaves to NumPy, as calls that it knows: the largest and the smallest entry of an axis,
`logsumexp`, `log_softmax`, a sequence read backward, and what is done with truth values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ... import ops
from ...compiler.ir.arrays import DType
from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Call, Graph, Operator, Rewriter, Value
from ...compiler.ir.operators import ADD, GETITEM, MULTIPLY, SUM, operator_of
from ...compiler.passes.common import Operands, reshaped, rewrite, transposed

_OF_TRUTH = frozenset(["isnan", "isfinite", "astype", "logical_and", "logical_or", "logical_not", "equal", "not_equal"])
_EXTREMES = {"max": operator_of(ops.maximum), "min": operator_of(ops.minimum)}
_SUBTRACT, _EXP, _LOG, _WHERE = (operator_of(one) for one in (ops.subtract, ops.exp, ops.log, ops.where))
_EQUAL, _NOT_EQUAL, _GREATER = (Operator(name, getattr(np, name), True) for name in ("equal", "not_equal", "greater"))
_TRUTH = np.dtype(np.bool_)


def with_known_calls(graph: Graph) -> Graph:
    """Return a graph in which these are made of other calls; reductions, of real numbers over one axis or over all."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
    x = inputs[0] if inputs else None
    if call.name == "take_along" and isinstance(x, Value):
        return _backward(call, x, new)
    if call.name in _OF_TRUTH and isinstance(x, Value):
        return _of_truth(call, inputs, new)
    if call.name not in (*_EXTREMES, "logsumexp", "log_softmax") or not isinstance(x, Value) or x.dtype.kind != "f":
        return None
    axis = call.attrs.get("axis")
    if axis is None and len(inputs) == 1:
        x, axis = reshaped(new, x, (math.prod(x.shape),)), 0
    if isinstance(axis, tuple) and len(axis) == 1:
        (axis,) = axis
    if not isinstance(axis, int) or len(inputs) != 1 or x.shape[axis] == 0:
        return None
    if call.name in _EXTREMES:
        return [reshaped(new, _extreme(new, _EXTREMES[call.name], x, axis), call.output.shape)]
    last = [*(place for place in range(x.ndim) if place != axis % x.ndim), axis % x.ndim]  # where sums are known
    x = transposed(new, x, last)
    top = _finite(new, _extreme(new, _EXTREMES["max"], x, -1))
    powers = new.call(_EXP, [new.call(_SUBTRACT, [x, top]).output]).output
    total = new.call(SUM, [powers], {"axis": (x.ndim - 1,), "keepdims": True}).output
    found = new.call(ADD, [new.call(_LOG, [total]).output, top]).output
    if call.name == "log_softmax":
        found = transposed(new, new.call(_SUBTRACT, [x, found]).output, np.argsort(last).tolist())
    return [reshaped(new, found, call.output.shape)]


def _of_truth(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Return a test of real numbers, or what is made of truth values: they count as the numbers 0 and 1."""
    x, *others = inputs
    if call.name in ("isnan", "isfinite"):
        if x.dtype.kind != "f":
            return None
        left, operator, right = x, _NOT_EQUAL, x
        if call.name == "isfinite":
            left, operator, right = new.call(MULTIPLY, [x, 0.0]).output, _EQUAL, 0.0
        return [new.call(operator, [left, right]).output]
    if any(not isinstance(part, Value) or part.dtype != _TRUTH for part in inputs):
        return None
    if call.name == "astype":
        return [_number(new, x, call.output.dtype)] if call.output.dtype.kind == "f" else None
    numbers = [_number(new, part, np.dtype(np.float32)) for part in (x, *others)]
    if call.name == "logical_not":
        return [new.call(_EQUAL, [*numbers, 0.0]).output]
    if call.name in ("equal", "not_equal"):
        return [new.call(_EQUAL if call.name == "equal" else _NOT_EQUAL, numbers).output]
    joined = new.call(MULTIPLY if call.name == "logical_and" else ADD, numbers).output
    return [new.call(_GREATER, [joined, 0.0]).output]


def _number(new: Rewriter, truth: Value, dtype: DType) -> Value:
    return new.call(_WHERE, [truth, 1.0, 0.0], specs=[(truth.shape, dtype)]).output


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


def _extreme(new: Rewriter, operator: Operator, x: Value, axis: int) -> Value:
    """Return the extreme entry along an axis, of length 1 then: half against half, which may overlap in the middle."""
    before = (slice(None),) * (axis % x.ndim)
    while (length := x.shape[axis]) > 1:
        half = -(-length // 2)
        parts = [slice(0, half), slice(length - half, length)]
        x = new.call(operator, [new.call(GETITEM, [x], {"index": (*before, part)}).output for part in parts]).output
    return x


def _finite(new: Rewriter, x: Value) -> Value:
    """Return x between the smallest and the largest finite number: from infinity nothing can be taken away."""
    most = float(np.finfo(np.float32 if x.dtype == np.float32 else np.float64).max)
    lifted = new.call(_EXTREMES["max"], [x, -most]).output
    return new.call(_EXTREMES["min"], [lifted, most]).output
