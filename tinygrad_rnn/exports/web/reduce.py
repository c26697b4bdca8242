"""What the C library leaves to NumPy, as calls that it knows: the largest and the smallest entry of an axis,
`logsumexp`, `log_softmax`, and a sequence read backward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ... import ops
from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Call, Graph, Operator, Rewriter, Value
from ...compiler.ir.operators import ADD, GETITEM, SUM, operator_of
from ...compiler.passes.common import Operands, reshaped, rewrite, transposed

_EXTREMES = {"max": operator_of(ops.maximum), "min": operator_of(ops.minimum)}
_SUBTRACT, _EXP, _LOG = (operator_of(one) for one in (ops.subtract, ops.exp, ops.log))


def with_known_calls(graph: Graph) -> Graph:
    """Return a graph in which these, reductions of real numbers over one axis or over all, are made of other calls."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
    x = inputs[0] if inputs else None
    if call.name == "take_along" and isinstance(x, Value):
        return _backward(call, x, new)
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
