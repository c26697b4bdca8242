"""Functions that the package computes in NumPy alone, as operations that the formats have: masks and targets of losses,
norms of gradients, and NumPy's bitwise functions of booleans.

In Python they also check values; an exported program does not: a NaN goes on, and so does a probability above 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, reduce

import numpy as np

from .. import ops
from ..compiler.ir.arrays import DType
from ..compiler.ir.editing import in_bodies
from ..compiler.ir.graph import Call, Graph, Operator, Rewriter, Value
from ..compiler.ir.operators import ADD, BROADCAST, GETITEM, MULTIPLY, RESHAPE, STACK, SUM, operator_of
from ..compiler.passes.common import Operands, rewrite
from .checks import full_name

_ASTYPE, _DIVIDE, _RINT = map(operator_of, (ops.elementwise.astype, ops.divide, ops.rint))
_SQRT, _SUBTRACT, _WHERE = map(operator_of, (ops.sqrt, ops.subtract, ops.where))
_AND, _EQUAL, _GREATER, _NOT, _NOT_EQUAL, _OR = (
    Operator(name, getattr(np, name), True)
    for name in ("logical_and", "equal", "greater", "logical_not", "not_equal", "logical_or")
)
_WIDE, _TRUTH = np.dtype(np.float64), np.dtype(np.bool_)


def in_plain_operations(graph: Graph) -> Graph:
    """Return a graph in which these functions are made of others."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    compute, truth = call.operator.compute, [value.dtype == _TRUTH for value in call.values()]
    name = call.name if call.name in _PLAIN else full_name(compute)
    if name not in _PLAIN or (name in _BITWISE and not all([*truth, call.output.dtype == _TRUTH])):
        return None  # `mask & 3` is a whole number
    named: dict[str, object] = compute.keywords if isinstance(compute, partial) else {}
    return [_PLAIN[name](partial(_made, new), call.output, *inputs, **call.attrs, **named)]


def _made(new: Rewriter, operator: Operator, *inputs: object, **attrs: object) -> Value:
    return new.call(operator, inputs, attrs).output


_Make = Callable[..., Value]


def _as(make: _Make, x: Value, dtype: DType) -> Value:
    return x if x.dtype == dtype else make(_ASTYPE, x, dtype=dtype)


def _sum(make: _Make, x: Value) -> Value:
    return make(SUM, x, axis=None, keepdims=False)


def _logical(operator: Operator) -> Callable[..., Value]:
    return lambda make, out, *parts: make(operator, *parts)


def _count_true(make: _Make, x: Value, true: bool, axis: object, keepdims: bool) -> Value:
    """Return how many entries are true, or are not, as numbers of float32, which tell 0 from more."""
    truth = x if x.dtype == _TRUTH else make(_NOT_EQUAL, x, 0)
    counted = _as(make, truth if true else make(_NOT, truth), np.dtype(np.float32))
    return make(SUM, counted, axis=axis, keepdims=keepdims)


def _any(make: _Make, out: Value, x: Value, axis: object = None, *, keepdims: bool = False) -> Value:
    return make(_GREATER, _count_true(make, x, True, axis, keepdims), 0)


def _all(make: _Make, out: Value, x: Value, axis: object = None, *, keepdims: bool = False) -> Value:
    return make(_EQUAL, _count_true(make, x, False, axis, keepdims), 0)


def _norms(make: _Make, out: Value, *gradients: Value, **_: object) -> Value:
    """Return the norm of each gradient and of all; in float64, where squares of float32 stay in range."""
    wide: Iterable[Value] = [_as(make, g, _WIDE) for g in gradients]
    squares = [_sum(make, make(MULTIPLY, g, g)) for g in wide]
    total = reduce(partial(make, ADD), squares)
    return make(_SQRT, make(STACK, *squares, total, axis=0))


def _mask(make: _Make, out: Value, mask: Value, **_: object) -> Value:
    whole = (*mask.shape, *[1] * (out.ndim - mask.ndim))
    return make(BROADCAST, make(RESHAPE, mask, shape=whole), shape=out.shape)


def _count(make: _Make, out: Value, kept: Value, **_: object) -> Value:
    return _sum(make, _as(make, kept, out.dtype))


def _masked_ids(make: _Make, out: Value, ids: Value, kept: Value, ignore_label: int) -> Value:
    return make(_WHERE, kept, _as(make, ids, out.dtype), ignore_label)


def _column(make: _Make, x: Value) -> Value:
    return make(GETITEM, x, index=(..., None))


def _one_hot(make: _Make, out: Value, ids: Value, kept: Value, V: int, dtype: DType) -> Value:
    every = Value((V,), np.dtype(np.int64), constant=np.arange(V))
    return _as(make, make(_AND, make(_EQUAL, _column(make, ids), every), _column(make, kept)), dtype)


def _round(make: _Make, out: Value, x: Value, decimals: int = 0) -> Value:
    real = x if x.dtype.kind == "f" else _as(make, x, _WIDE)
    scale = 10.0 ** abs(decimals)  # the larger of two inverse numbers, which is a whole one
    first, then = (MULTIPLY, _DIVIDE) if decimals > 0 else (_DIVIDE, MULTIPLY)
    made = make(then, make(_RINT, make(first, real, scale)), scale) if decimals else make(_RINT, real)
    return _as(make, made, out.dtype)


def _smoothed(
    make: _Make, out: Value, given: Value, kept: Value | None, weights: Value | None, smoothing: float, dtype: DType
) -> Value:
    q = _as(make, given, dtype)
    if smoothing:
        q = make(ADD, make(MULTIPLY, q, 1 - smoothing), smoothing / out.shape[-1])
    q = q if weights is None else make(MULTIPLY, q, weights)
    return q if kept is None else make(_WHERE, _column(make, kept), q, 0.0)


def _likelihoods(
    make: _Make, out: Value, given: Value, kept: Value | None, ignore_label: float, dtype: DType, **_: object
) -> Value:
    yes = _as(make, given, dtype)
    there = make(_NOT_EQUAL, yes, ignore_label)
    there = there if kept is None else make(_AND, there, kept)
    no = make(_WHERE, there, make(_SUBTRACT, 1.0, yes), 0.0)
    return make(STACK, make(_WHERE, there, yes, 0.0), no, axis=0)


_BITWISE: dict[str, Callable[..., Value]] = {
    "numpy.bitwise_and": _logical(_AND),
    "numpy.bitwise_or": _logical(_OR),
    "numpy.bitwise_xor": _logical(_NOT_EQUAL),
    "numpy.invert": _logical(_NOT),
}
"""Of truth values alone."""

_PLAIN: dict[str, Callable[..., Value]] = {
    "tinygrad_rnn.optim.clipping.norms": _norms,
    "tinygrad_rnn.ops.masked._mask": _mask,
    "tinygrad_rnn.ops.masked._count": _count,
    "tinygrad_rnn.ops.distributions.masked_ids": _masked_ids,
    "tinygrad_rnn.ops.distributions._one_hot": _one_hot,
    "tinygrad_rnn.ops.distributions._smoothed": _smoothed,
    "tinygrad_rnn.ops.loss._likelihoods": _likelihoods,
    "tinygrad_rnn.ops.rounding.round": _round,
    "numpy.all": _all,
    "numpy.any": _any,
    **_BITWISE,
}
"""What is computed in place of a function, by its name: a function of what makes a call, of the result, and of the
operands.
"""
