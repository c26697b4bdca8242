"""Products of arrays beyond `matmul`, derived from it: each becomes one product of matrices, so BLAS does the work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from ..engine.operands import as_value
from ..engine.signatures import binary, joining
from ..engine.tensor import Operand, Value, shape_of
from ..errors import ShapeError
from .arrange import part_of
from .axes import normalized, one
from .elementwise import astype, multiply
from .joining import need_axes
from .linalg import matmul
from .reduce import sum
from .shape import concatenate, expand_dims, moveaxis, ravel, reshape, transpose


@binary(np.tensordot, np.linalg.tensordot)
def tensordot(a: Operand, b: Operand, axes: int | Sequence[int | Sequence[int]] = 2) -> Value:
    """Return the sum of products over pairs of axes: the last `axes` of a with the first of b, or those that it names.

    Args:
        a: array of any shape.
        b: array; the axes that are summed over are as long as those of `a`.
        axes: a number of axes, or a pair (axes of a, axes of b).
    """
    left, right = shape_of(a), shape_of(b)
    if isinstance(axes, int | np.integer):
        count = int(axes)
        if not 0 <= count <= min(len(left), len(right)):
            raise ShapeError(f"tensordot: axes={count} of operands of shape {left} and {right}")
        of_a, of_b = tuple(range(len(left) - count, len(left))), tuple(range(count))
    else:
        of_a, of_b = (
            normalized("tensordot", tuple(np.atleast_1d(part).tolist()), shape, "axes")
            for part, shape in zip(axes, (left, right), strict=True)
        )
    if [left[axis] for axis in of_a] != [right[axis] for axis in of_b]:
        raise ShapeError(f"tensordot: axes {of_a} of shape {left} are not as long as axes {of_b} of shape {right}")
    rows = [axis for axis in range(len(left)) if axis not in of_a]
    columns = [axis for axis in range(len(right)) if axis not in of_b]
    inner = math.prod(left[axis] for axis in of_a)
    made = matmul(
        reshape(transpose(a, (*rows, *of_a)), (math.prod(left[axis] for axis in rows), inner)),
        reshape(transpose(b, (*of_b, *columns)), (inner, math.prod(right[axis] for axis in columns))),
    )
    return reshape(made, (*(left[axis] for axis in rows), *(right[axis] for axis in columns)))


@binary(np.outer, np.linalg.outer)
def outer(a: Operand, b: Operand) -> Value:
    """Return a[i] * b[j] of two flattened arrays, (m,) and (n,), as (m, n)."""
    return multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


@binary(np.inner)
def inner(a: Operand, b: Operand) -> Value:
    """Return the sums of products over the last axes of a and b; a * b if one is a single number."""
    if not shape_of(a) or not shape_of(b):
        return multiply(a, b)
    return tensordot(a, b, (-1, -1))


@binary(np.vdot)
def vdot(a: Operand, b: Operand) -> Value:
    """Return the sum of products of two flattened arrays of real numbers."""
    return matmul(ravel(a), ravel(b))


@binary(np.kron)
def kron(a: Operand, b: Operand) -> Value:
    """Return the Kronecker product: blocks of b, each times an element of a."""
    ndim = max(len(shape_of(a)), len(shape_of(b)))
    left, right = ((1,) * (ndim - len(shape_of(part))) + shape_of(part) for part in (a, b))
    spread = tuple(length for pair in zip(left, (1,) * ndim, strict=True) for length in pair)
    within = tuple(length for pair in zip((1,) * ndim, right, strict=True) for length in pair)
    made = multiply(reshape(a, spread), reshape(b, within))
    return reshape(made, tuple(one * other for one, other in zip(left, right, strict=True)))


@binary(np.cross)
def cross(a: Operand, b: Operand, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Value:
    """Return the cross product of vectors of 3 numbers along an axis."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    parts = []
    for vectors, along in ((a, axisa), (b, axisb)):
        place = one("cross", along, shape_of(vectors))
        if shape_of(vectors)[place] != 3:
            raise ShapeError(f"cross: expected vectors of 3 numbers along axis {along}, got shape {shape_of(vectors)}")
        parts.append([part_of(vectors, place, number) for number in range(3)])
    (a0, a1, a2), (b0, b1, b2) = parts
    made = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0]
    return moveaxis(concatenate([expand_dims(part, -1) for part in made], axis=-1), -1, axisc)


@binary(np.linalg.cross)
def vector_cross(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Value:
    """Return the cross product of vectors of 3 numbers along `axis`."""
    return cross(x1, x2, axis=axis)


@binary(np.linalg.matmul)
def matrix_product(x1: Operand, x2: Operand, /) -> Value:
    """Return x1 @ x2."""
    return matmul(x1, x2)


@binary(np.vecdot, np.linalg.vecdot)
def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Value:
    """Return the sums of products of real vectors along `axis`, other axes broadcast."""
    if axis != -1:
        x1, x2 = moveaxis(x1, axis, -1), moveaxis(x2, axis, -1)
    products = multiply(x1, x2)
    made = sum(products, axis=-1)
    return made if made.dtype == products.dtype else astype(made, products.dtype)  # small integers stay what they are


@binary(*(getattr(np, name) for name in ("matvec",) if hasattr(np, name)))  # from NumPy 2.2 on
def matvec(x1: Operand, x2: Operand, /) -> Value:
    """Return the products of matrices (..., m, n) and vectors (..., n)."""
    need_axes("matvec", x1, 2)
    return matmul(x1, expand_dims(x2, -1))[..., 0]


@binary(*(getattr(np, name) for name in ("vecmat",) if hasattr(np, name)))
def vecmat(x1: Operand, x2: Operand, /) -> Value:
    """Return the products of real vectors (..., m) and matrices (..., m, n)."""
    need_axes("vecmat", x2, 2)
    return matmul(expand_dims(x1, -2), x2)[..., 0, :]


@joining(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Operand]) -> Value:
    """Return the matrix product of several arrays, from left to right."""
    first, *others = map(as_value, arrays)
    return reduce(lambda made, array: matmul(made, array), others, first)
