"""Diagonals and triangles of matrices, derived from slices."""

from __future__ import annotations

import numpy as np

from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..errors import ShapeError
from .axes import normalized
from .elementwise import where
from .index import _scatter, getitem
from .reduce import sum
from .shape import moveaxis, ravel, reshape


def _every(rows: int, columns: int, offset: int) -> slice:
    """Return the slice of a diagonal in a flattened (rows, columns) matrix: every (columns + 1)-th element."""
    start = offset if offset >= 0 else -offset * columns
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    return slice(start, start + (count - 1) * (columns + 1) + 1, columns + 1) if count else slice(0, 0)


@unary(np.diagonal)
def diagonal(a: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """Return the elements a[..., i, i + offset] of the matrices in two axes of `a`, along the last axis."""
    shape = shape_of(a)
    if len(shape) < 2:
        raise ShapeError(f"diagonal: expected at least 2 axes, got shape {shape}")
    first, second = normalized("diagonal", (axis1, axis2), shape, "(axis1, axis2)")
    a = moveaxis(a, (first, second), (-2, -1))
    *lead, rows, columns = shape_of(a)
    return getitem(reshape(a, (*lead, rows * columns)), (..., _every(rows, columns, offset)))


@unary(np.linalg.diagonal)
def matrix_diagonal(x: Operand, /, *, offset: int = 0) -> Value:
    """Return the diagonals of matrices in the last two axes."""
    return diagonal(x, offset, -2, -1)


@unary(np.trace)
def trace(a: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """Return the sum of a diagonal; see `diagonal`."""
    return sum(diagonal(a, offset, axis1, axis2), axis=-1)


@unary(np.linalg.trace)
def matrix_trace(x: Operand, /, *, offset: int = 0) -> Value:
    """Return the sums of the diagonals of matrices in the last two axes."""
    return trace(x, offset, -2, -1)


@unary(np.diag)
def diag(v: Operand, k: int = 0) -> Value:
    """Return the k-th diagonal of a matrix, or a square matrix with a vector as its k-th diagonal and 0 elsewhere."""
    shape = shape_of(v)
    if len(shape) == 2:
        return diagonal(v, k)
    if len(shape) != 1:
        raise ShapeError(f"diag: expected a vector or a matrix, got shape {shape}")
    side = shape[0] + abs(k)
    return reshape(_scatter(v, _every(side, side, k), (side * side,)), (side, side))


@unary(np.diagflat)
def diagflat(v: Operand, k: int = 0) -> Value:
    """Return a square matrix with the elements of `v` as its k-th diagonal."""
    return diag(ravel(v), k)


@unary(np.tril)
def tril(m: Operand, k: int = 0) -> Value:
    """Return matrices with 0 above the k-th diagonal."""
    return where(_below("tril", m, k), m, _zero(m))


@unary(np.triu)
def triu(m: Operand, k: int = 0) -> Value:
    """Return matrices with 0 below the k-th diagonal."""
    return where(_below("triu", m, k - 1), _zero(m), m)


def _below(function: str, m: Operand, k: int) -> Array:
    """Return which elements of a matrix are on the k-th diagonal or below it; NumPy takes a vector for every row."""
    shape = shape_of(m)
    if not shape:
        raise ShapeError(f"{function}: expected at least 1 axis, got a single number")
    return np.tri((shape[-1:] * 2 if len(shape) == 1 else shape)[-2], shape[-1], k, dtype=bool)


def _zero(m: Operand) -> Array:
    return np.zeros((), m.dtype if isinstance(m, Tensor | np.ndarray) else np.asarray(m).dtype)
