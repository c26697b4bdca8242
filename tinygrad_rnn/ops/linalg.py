"""The matrix product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Operand, implements
from ..errors import ShapeError


@primitive(np.matmul)
def matmul(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a @ b: (..., n, k) with (..., k, m), leading axes broadcast; vectors as in NumPy."""
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim > 2 and right.ndim == 2 and left.shape[-1] == right.shape[0]:
        # (N, T, D) @ (D, H) is one product of N*T rows; NumPy would make N small ones.
        shape, rows = (*left.shape[:-1], right.shape[1]), math.prod(left.shape[:-1])
        if out is None:
            return np.matmul(left.reshape(rows, left.shape[-1]), right).reshape(shape)
        if out.flags.c_contiguous and out.shape == shape:
            np.matmul(left.reshape(rows, left.shape[-1]), right, out=out.reshape(rows, right.shape[1]))
            return out
    return np.asarray(np.matmul(left, right, out=out))


@matmul.rule(keep="a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1 and b.ndim == 1:
        return lambda: g * b, lambda: g * a

    def left() -> Any:
        if b.ndim == 1:
            return np.expand_dims(g, -1) * b
        if a.ndim == 1:
            # the row vector a meets every matrix of b: the engine sums over their leading axes
            return np.squeeze(np.expand_dims(g, -2) @ np.swapaxes(b, -1, -2), -2)
        return g @ np.swapaxes(b, -1, -2)

    def right() -> Any:
        if a.ndim == 1:
            return np.expand_dims(a, -1) * np.expand_dims(g, -2)
        if b.ndim == 1:
            return np.squeeze(np.swapaxes(a, -1, -2) @ np.expand_dims(g, -1), -1)
        if b.ndim == 2 and a.ndim > 2:
            # one product over all rows, instead of a product a batch entry and a sum of them
            rows = math.prod(a.shape[:-1])
            return np.swapaxes(np.reshape(a, (rows, a.shape[-1])), 0, 1) @ np.reshape(g, (rows, g.shape[-1]))
        return np.swapaxes(a, -1, -2) @ g

    return left, right


@implements(np.dot)
def dot(a: Operand, b: Operand) -> Any:
    """Return a @ b for vectors and matrices, a * b if one is 0-d.

    Raises:
        ShapeError: for more than two axes, where `np.dot` and `@` differ: use `@`.
    """
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        raise ShapeError(f"dot: expected at most 2 axes, got shapes {np.shape(a)} and {np.shape(b)}; use @")
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else matmul(a, b)
