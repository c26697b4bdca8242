"""Operators of primitives, and those that passes add to a graph."""

from __future__ import annotations

from functools import cache

import numpy as np

from ... import ops  # importing it gives Tensors their operators
from ...engine.primitive import Primitive
from ...engine.tape import Array
from .graph import Operator


@cache
def operator_of(operation: Primitive[..., object]) -> Operator:
    """Return the operator that computes a primitive; passes know those of the package by name, and no others."""
    writes = operation.accepts_out
    if operation.__module__.startswith(_OWN):
        return Operator(operation.name, operation.forward, writes, multiple=operation.multiple)
    name = f"{operation.__module__}.{operation.name}"
    return Operator(name, operation.forward, writes, key=operation, multiple=operation.multiple)


_OWN = f"{ops.__name__}."


def _stack(*xs: Array, axis: int = 0, out: Array | None = None) -> Array:
    return np.stack(xs, axis=axis, out=out)


def _concatenate(*xs: Array, axis: int, out: Array | None = None) -> Array:
    return np.concatenate(xs, axis=axis, out=out)


ADD = operator_of(ops.add)
MULTIPLY = operator_of(ops.multiply)
MATMUL = operator_of(ops.matmul)
BROADCAST = operator_of(ops.broadcast_to)
RESHAPE = operator_of(ops.reshape)
SUM = operator_of(ops.reduce.sum)
TAKE_BACK = operator_of(ops.index._take_back)
TRANSPOSE = operator_of(ops.transpose)
UNSTACK = operator_of(ops.unstack)
CONCATENATE = Operator("concatenate", _concatenate, True)
STACK = Operator("stack", _stack, True)
GETITEM = operator_of(ops.index._getitem)
CONTIGUOUS = Operator("contiguous", lambda x, /, *, out=None: np.array(x) if out is None else np.copyto(out, x), True)
