"""Products, reductions and losses as nodes."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from ...compiler.ir.graph import Call, Value
from ...errors import UnsupportedError
from ..around import bounds, places
from ..checks import setting
from .arrange import first_operand
from .extents import Length, Lengths, apart
from .scope import Scope, Writer

_INTEGERS = np.dtype(np.int64)


def _matmul(to: Scope, call: Call) -> list[str]:
    return [to.node("MatMul", *(to.operand(part, call.output.dtype) for part in call.inputs))]


def _reduction(kind: str, *, axes_are_input: bool = False) -> Writer:
    def write(to: Scope, call: Call) -> list[str]:
        name, shape = first_operand(to, call)
        axis = call.attrs.get("axis")
        axes = list(range(len(shape))) if axis is None else [axis] if isinstance(axis, int) else [*axis]
        if not axes:
            return [name]
        kept = int(bool(call.attrs.get("keepdims", False)))
        if axes_are_input:
            return [to.node(kind, name, to.integers(axes), keepdims=kept)]
        return [to.node(kind, name, axes=axes, keepdims=kept)]

    return write


def _log_softmax(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    axis = call.attrs.get("axis", -1)
    if isinstance(axis, int):
        return [to.node("LogSoftmax", name, axis=axis % len(shape))]
    axes = list(range(len(shape))) if axis is None else [*axis]
    return [to.node("Sub", name, to.node("ReduceLogSumExp", name, axes=axes, keepdims=1))]


def _cumsum(to: Scope, call: Call) -> list[str]:
    name, _ = first_operand(to, call)
    return [to.node("CumSum", name, to.constant(int(call.attrs["axis"]), _INTEGERS))]


def _targets(to: Scope, call: Call) -> tuple[str, str]:
    """Return the targets, 0 where they are masked, and whether they count, both with an axis for the classes."""
    targets = to.node("Unsqueeze", to.operand(call.attrs["targets"], _INTEGERS), to.integers([-1]))
    label = to.constant(int(call.attrs["ignore_label"]), _INTEGERS)
    kept = to.node("Not", to.node("Equal", targets, label))
    return to.node("Where", kept, targets, to.constant(0, _INTEGERS)), kept


def _cross_entropy(to: Scope, call: Call) -> list[str]:
    """Write the mean of logsumexp(logits) - logits[target] over the positions that count."""
    logits, shape = first_operand(to, call)
    dtype = call.output.dtype
    ids, kept = _targets(to, call)
    log = to.node("LogSoftmax", logits, axis=len(shape) - 1)
    nats = to.node("Neg", to.node("GatherElements", log, ids, axis=len(shape) - 1))
    nats = to.node("Where", kept, nats, to.constant(0, dtype))
    count = to.node("ReduceSum", to.cast(kept, np.dtype(bool), dtype), keepdims=0)
    return [to.node("Div", to.node("ReduceSum", nats, keepdims=0), count)]


def _cross_entropy_back(to: Scope, call: Call) -> list[str]:
    """Write g * (softmax(logits) - onehot(targets)) / count, 0 where masked."""
    logits, shape = first_operand(to, call)
    dtype, classes = call.output.dtype, shape[-1]
    if not isinstance(classes, int):
        raise UnsupportedError("export: the number of classes of a cross entropy must be fixed")
    ids, kept = _targets(to, call)
    count = to.node("ReduceSum", to.cast(kept, np.dtype(bool), dtype), keepdims=0)
    every = to.book.array(np.arange(classes), "classes")
    hot = to.cast(to.node("Equal", ids, every), np.dtype(bool), dtype)
    apart = to.node("Sub", to.node("Softmax", logits, axis=len(shape) - 1), hot)
    scaled = to.node("Mul", apart, to.node("Div", to.operand(call.inputs[1], dtype), count))
    return [to.node("Where", kept, scaled, to.constant(0, dtype))]


def _scatter(to: Scope, call: Call) -> list[str]:
    """Write zeros around an array; where there are some between its elements, by the place of each in one axis."""
    name, _ = first_operand(to, call)
    index = to.book.sized.attributes(call)["index"]
    parts = [*index] if isinstance(index, tuple) else [index]
    shape = to.shape(call.output)
    parts += [slice(None)] * (len(shape) - len(parts))
    around = [_around(part, length) for part, length in zip(parts, shape, strict=False)]
    if len(parts) != len(shape) or None in around:
        return _put(to, call, name, index, shape)
    gone = [axis for axis, part in enumerate(parts) if isinstance(part, int)]
    if gone:
        name = to.node("Unsqueeze", name, to.integers(gone))
    before, after = zip(*(pair for pair in around if pair is not None), strict=True)
    return [to.node("Pad", name, to.integers([*before, *after]), to.constant(0, call.output.dtype))]


def _around(part: object, length: Length) -> tuple[int, int] | None:
    """Return how many zeros come before and after a part of an axis, which may have any length."""
    if isinstance(length, int):
        return bounds(part, length)
    if not isinstance(part, slice) or part.step not in (None, 1):
        return None
    start, after = part.start or 0, apart(length, length if part.stop is None else part.stop)
    return (start, after) if isinstance(start, int) and start >= 0 and after is not None else None


def _put(to: Scope, call: Call, name: str, index: object, shape: Lengths) -> list[str]:
    fixed = [length for length in shape if isinstance(length, int)]
    arrays = [to.array(part) for part in (index if isinstance(index, tuple) else ()) if isinstance(part, Value)]
    if len(fixed) != len(shape) or any(array is None for array in arrays):
        raise UnsupportedError(
            "export: ONNX has no gradient of this index where its array may have any length; use slices of step 1, and "
            "integers, or give axes= without this size, so that it is fixed"
        )
    chosen = places(index, fixed, "ONNX")
    zeros = to.book.array(np.zeros(math.prod(fixed), call.output.dtype), "zeros")
    flat = to.node("Reshape", name, to.integers([-1]))
    put = to.node("ScatterElements", zeros, to.book.array(chosen, "places"), flat, axis=0, reduction="add")
    return [to.node("Reshape", put, to.integers(fixed))]


def _argmax(kind: str) -> Writer:
    def write(to: Scope, call: Call) -> list[str]:
        name, axis = to.name(cast(Value, call.inputs[0])), setting(call, 1, "axis")
        kept = int(bool(setting(call, 3, "keepdims")))
        if axis is None and kept:
            raise UnsupportedError(f"export: ONNX has no {kind} of all axes that keeps them; give axis=")
        if axis is None:
            name, axis = to.node("Reshape", name, to.integers([-1])), 0
        return [to.node(kind, name, axis=cast(int, axis), keepdims=kept)]

    return write


REDUCE: dict[str, Writer] = {
    "matmul": _matmul,
    "sum": _reduction("ReduceSum", axes_are_input=True),
    "mean": _reduction("ReduceMean"),
    "max": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
    "prod": _reduction("ReduceProd"),
    "logsumexp": _reduction("ReduceLogSumExp"),
    "log_softmax": _log_softmax,
    "cumsum": _cumsum,
    "cross_entropy": _cross_entropy,
    "cross_entropy_back": _cross_entropy_back,
    "scatter": _scatter,
}
"""Writers of products, reductions and losses, by name of the operator."""


def _full_like(to: Scope, call: Call) -> list[str]:
    number = to.operand(setting(call, 1, "fill_value"), call.output.dtype)
    given = call.inputs[1] if len(call.inputs) > 1 else 0
    return [to.expand(number, to.shape(given) if isinstance(given, Value) else (), to.shape(call.output))]


ANSWERS: dict[str, Writer] = {
    "argmax": _argmax("ArgMax"),
    "argmin": _argmax("ArgMin"),
    "full_like": _full_like,
}
"""Writers of NumPy functions without a gradient that are no primitives, by name."""
