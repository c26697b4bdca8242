"""The matrix product."""

from __future__ import annotations

import math

import numpy as np

from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import binary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value
from ..errors import ShapeError
from .elementwise import multiply


@primitive(np.matmul)
def matmul(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a @ b: (..., n, k) with (..., k, m), leading axes broadcast; vectors as in NumPy."""
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim > 2 and right.ndim == 2 and left.shape[-1] == right.shape[0]:
        # (N, T, D) @ (D, H) is one product of N*T rows; NumPy would make N small ones.
        shape, rows = (*left.shape[:-1], right.shape[1]), math.prod(left.shape[:-1])
        if out is None:
            made: Array = np.matmul(left.reshape(rows, left.shape[-1]), right).reshape(shape)
            return made
        if out.flags.c_contiguous and out.shape == shape:
            np.matmul(left.reshape(rows, left.shape[-1]), right, out=out.reshape(rows, right.shape[1]))
            return out
    return np.asarray(np.matmul(left, right, out=out))


@matmul.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    if a.ndim == 1 and b.ndim == 1:
        return lambda: g * b, lambda: g * a

    def left() -> Value:
        made: Value
        if b.ndim == 1:
            made = np.expand_dims(g, -1) * b
        elif a.ndim == 1:
            # the row vector a meets every matrix of b: the engine sums over their leading axes
            made = np.squeeze(np.expand_dims(g, -2) @ np.swapaxes(b, -1, -2), -2)
        else:
            made = g @ np.swapaxes(b, -1, -2)
        return made

    def right() -> Value:
        made: Value
        if a.ndim == 1:
            made = np.expand_dims(a, -1) * np.expand_dims(g, -2)
        elif b.ndim == 1:
            made = np.squeeze(np.swapaxes(a, -1, -2) @ np.expand_dims(g, -1), -1)
        elif b.ndim == 2 and a.ndim > 2:
            # one product over all rows, instead of a product a batch entry and a sum of them
            rows = math.prod(a.shape[:-1])
            made = np.swapaxes(np.reshape(a, (rows, a.shape[-1])), 0, 1) @ np.reshape(g, (rows, g.shape[-1]))
        else:
            made = np.swapaxes(a, -1, -2) @ g
        return made

    return left, right


@binary(np.dot)
def dot(a: Operand, b: Operand) -> Value:
    """Return a @ b for vectors and matrices, a * b if one is 0-d.

    Raises:
        ShapeError: for more than two axes, where `np.dot` and `@` differ: use `@`.
    """
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        raise ShapeError(f"dot: expected at most 2 axes, got shapes {np.shape(a)} and {np.shape(b)}; use @")
    return multiply(a, b) if np.ndim(a) == 0 or np.ndim(b) == 0 else matmul(a, b)
