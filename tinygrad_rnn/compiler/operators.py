"""Operators that passes put into a graph, and what is known of operators by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.tape import Array
from .graph import Operator


def _reshape(x: Array, /, shape: tuple[int, ...], *, out: Array | None = None) -> Array:
    made = np.reshape(x, shape)
    if out is None:
        return made
    np.copyto(out, made)
    return out


def _unstack(x: Array, /, axis: int = 0) -> tuple[Array, ...]:
    return tuple(np.unstack(x, axis=axis))


def _stack(*xs: Array, axis: int = 0, out: Array | None = None) -> Array:
    return np.stack(xs, axis=axis, out=out)


def _sum(x: Array, /, axis: Any = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims, out=out))


def _concatenate(*xs: Array, axis: int, out: Array | None = None) -> Array:
    return np.concatenate(xs, axis=axis, out=out)


ADD = Operator("add", np.add, True)
MULTIPLY = Operator("multiply", np.multiply, True)
MATMUL = Operator("matmul", np.matmul, True)
CONCATENATE = Operator("concatenate", _concatenate, True)
STACK = Operator("stack", _stack, True)
UNSTACK = Operator("unstack", _unstack)
RESHAPE = Operator("reshape", _reshape, True)
TRANSPOSE = Operator("transpose", lambda x, /, axes: np.transpose(x, axes))
GETITEM = Operator("getitem", lambda x, /, index: np.asarray(x[index]))
SUM = Operator("sum", _sum, True)
CONTIGUOUS = Operator("contiguous", lambda x, /, *, out=None: np.array(x) if out is None else np.copyto(out, x), True)

_UFUNC_NAMES = "add subtract multiply divide negative power exp log sqrt tanh maximum minimum"
_OTHER_NAMES = "sigmoid relu where astype"
_COMPARISONS = "less less_equal greater greater_equal equal not_equal isfinite isnan logical_and logical_or logical_not"
_VIEW_NAMES = "reshape transpose broadcast_to split unstack getitem cut squeeze expand_dims"

ELEMENTWISE = frozenset(f"{_UFUNC_NAMES} {_OTHER_NAMES} {_COMPARISONS}".split())
"""Names of operators that compute each element of the result from the same element of each operand."""

VIEWS = frozenset(_VIEW_NAMES.split())
"""Names of operators whose result is another way to look at their first operand, as a rule."""
