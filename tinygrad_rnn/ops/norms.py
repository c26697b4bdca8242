"""Norms of vectors and matrices, and the square root used by norms and standard deviations."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ..engine.operands import as_value
from ..engine.signatures import unary
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Axis
from ..errors import DTypeError, ShapeError, UnsupportedError
from .axes import normalized
from .elementwise import absolute, astype, multiply, narrowed, power, sqrt, where, widened
from .reduce import max, min, sum
from .shape import ravel, reshape

Order: TypeAlias = float | str | None
"""Which norm; see `norm`."""


@unary()
def root(x: Operand) -> Value:
    """Return the square root of x, with the derivative 0 where x is 0, as norms and standard deviations take it."""
    zero = x == 0
    return where(zero, 0, sqrt(where(zero, 1, x)))


@unary(np.linalg.norm)
def norm(x: Operand, ord: Order = None, axis: Axis = None, keepdims: bool = False) -> Value:
    """Return a norm of vectors, or of matrices; the derivative at 0 is taken as 0.

    Args:
        x: real numbers. Complex ones are for complex step: the norm is sqrt(sum(x * x)), which is analytic.
        ord: of vectors None or 2, 1, inf, -inf or any p > 0; of matrices None or "fro", 1, -1, inf, -inf.
        axis: an axis of vectors, or two of matrices; None: x is one vector or matrix (with ord None: of any shape).
        keepdims: keep the axes, with length 1.

    Raises:
        UnsupportedError: for norms of matrices that need singular values.

    >>> import tinygrad_rnn as tr
    >>> x = tr.tensor([3.0, 4.0], requires_grad=True)
    >>> tr.norm(x).item(), tr.grad(tr.norm(x), x)
    (5.0, array([0.6, 0.8]))
    """
    x = _inexact(x)
    if x.dtype == np.float16:  # squares of half precision overflow from 256 on
        return narrowed(norm(widened(x), ord, axis, keepdims), x)
    shape = shape_of(x)
    if axis is None and ord is None:
        made = root(sum(multiply(x, x)))
        return reshape(made, (1,) * len(shape)) if keepdims else made
    if axis is None and len(shape) not in (1, 2):
        raise ShapeError(f"norm: expected a vector or a matrix for ord={ord!r}, got shape {shape}; give an axis")
    axes = normalized("norm", tuple(range(len(shape))) if axis is None else axis, shape)
    if len(axes) == 1:
        return _of_vectors(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return _of_matrices(x, ord, axes, keepdims)
    raise ShapeError(f"norm: axis must be one axis of vectors or two of matrices, got {axis!r}")


def _inexact(x: Operand) -> Value:
    x = as_value(x)
    return x if x.dtype.kind in "fc" else astype(x, np.float64)


def _of_vectors(x: Value, ord: Order, axis: int, keepdims: bool) -> Value:
    if ord is None or ord == 2:
        return root(sum(multiply(x, x), axis=axis, keepdims=keepdims))
    if isinstance(ord, str) or not isinstance(ord, int | float | np.number):
        raise DTypeError(f"norm: ord of vectors must be a number or None, got {ord!r}")
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(absolute(x), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(absolute(x), axis=axis, keepdims=keepdims)
    if not ord > 0:
        raise UnsupportedError(f"norm: ord={ord!r} has no derivative rule; use a positive number, inf or -inf")
    total = sum(power(absolute(x), float(ord)), axis=axis, keepdims=keepdims)
    zero = total == 0
    return where(zero, 0, power(where(zero, 1, total), 1 / float(ord)))


def _of_matrices(x: Value, ord: Order, axes: tuple[int, ...], keepdims: bool) -> Value:
    if ord is None or ord in ("fro", "f"):
        return root(sum(multiply(x, x), axis=axes, keepdims=keepdims))
    if ord not in (1, -1, np.inf, -np.inf):
        raise UnsupportedError(
            f"norm: ord={ord!r} of matrices is not supported: its derivative needs singular values, or it is unknown; "
            "use None, 'fro', 1, -1, inf or -inf"
        )
    inner, outer = axes if abs(ord) == 1 else axes[::-1]  # sums of columns, or of rows
    sums = sum(absolute(x), axis=inner, keepdims=True)
    most = (max if ord > 0 else min)(sums, axis=outer, keepdims=True)
    kept = tuple(length for place, length in enumerate(shape_of(most)) if place not in axes)
    return most if keepdims else reshape(most, kept)


@unary(np.linalg.vector_norm)
def vector_norm(x: Operand, /, *, axis: Axis = None, keepdims: bool = False, ord: Order = 2) -> Value:
    """Return a norm of vectors along one axis, or over several (None: all) as one vector; see `norm`."""
    shape = shape_of(x)
    axes = normalized("vector_norm", tuple(range(len(shape))) if axis is None else axis, shape)
    if len(axes) == 1:
        return norm(x, ord, axes[0], keepdims)
    if axis is not None:
        raise UnsupportedError("vector_norm: several axes are not supported; reshape them into one")
    made = norm(ravel(x), ord, 0)
    return reshape(made, (1,) * len(shape)) if keepdims else made


@unary(np.linalg.matrix_norm)
def matrix_norm(x: Operand, /, *, keepdims: bool = False, ord: Order = "fro") -> Value:
    """Return a norm of matrices in the last two axes; see `norm`."""
    return norm(x, ord, (-2, -1), keepdims)
