"""Running sums, products and differences. The rules of products do not divide, so zeros need no special case."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..engine.operands import as_value
from ..engine.primitive import Cotangents, Primitive, primitive
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Axis
from ..errors import ShapeError
from .arrange import flip, part_of
from .axes import one, single
from .elementwise import as_asked, astype, multiply, narrowed, subtract, widened
from .reduce import _keep_axes, sum
from .shape import broadcast_to, concatenate, moveaxis, ravel, reshape


@primitive(canonical=single)
def _cumsum(x: Array, /, axis: int, *, out: Array | None = None) -> Array:
    return np.cumsum(x, axis=axis, out=out)


@_cumsum.rule()
def _(g: Value, y: Value, x: Value, *, axis: int) -> Cotangents:
    return (flip(_cumsum(flip(g, axis), axis=axis), axis),)


@primitive(canonical=single)
def _cumprod(x: Array, /, axis: int, *, out: Array | None = None) -> Array:
    return np.cumprod(x, axis=axis, out=out)


@_cumprod.rule(keep="y x")
def _(g: Value, y: Value, x: Value, *, axis: int) -> Cotangents:
    """Element j has the product of all before it, times s[j] = g[j] + x[j + 1] * s[j + 1].

    That recurrence is solved for spans of 1, 2, 4, ... elements at a time: the step from s[j + span] to s[j] has the
    factor x[j + 1] * ... * x[j + span].
    """
    length = shape_of(x)[axis]
    total, factor, span = g, part_of(x, axis, slice(1, None)), 1
    while span < length:
        near, far = part_of(total, axis, slice(None, -span)), part_of(total, axis, slice(span, None))
        total = concatenate([near + factor * far, part_of(total, axis, slice(length - span, None))], axis=axis)
        factor = part_of(factor, axis, slice(None, -span)) * part_of(factor, axis, slice(span, None))
        span *= 2
    return (_shifted(y, axis) * total,)


def _shifted(products: Value, axis: int) -> Value:
    """Return running products, each without its last factor."""
    shape = products.shape
    first = np.ones((*shape[:axis], min(1, shape[axis]), *shape[axis + 1 :]), products.dtype)
    return concatenate([first, part_of(products, axis, slice(None, -1))], axis=axis)


@primitive()
def _prod(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    return np.asarray(np.prod(x, axis=axis, keepdims=keepdims, out=out))


@_prod.rule(keep="x")
def _(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Cotangents:
    """Each element has the product of those before it times the product of those after it."""
    shape = x.shape
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    kept = [place for place in range(len(shape)) if place not in axes]
    turned = [shape[place] for place in (*kept, *axes)]
    ends, last = range(len(kept), len(shape)), len(kept)
    rows = reshape(moveaxis(x, axes, ends), (*turned[:last], math.prod(turned[last:])))
    before = _shifted(_cumprod(rows, axis=last), last)
    after = flip(_shifted(_cumprod(flip(rows, last), axis=last), last), last)
    return (_keep_axes(g, x, axes) * moveaxis(reshape(before * after, tuple(turned)), ends, axes),)


# -- derived --------------------------------------------------------------------------------------------------------


Scan: TypeAlias = Primitive[..., Array]


def _scanned(scan: Scan, a: Operand, axis: int | None, dtype: DTypeLike | None) -> Value:
    if dtype is not None:
        a = astype(a, dtype)
    flat = axis is None or not shape_of(a)  # a single number is a vector of one, as in NumPy
    wide = widened(a)
    return as_asked(narrowed(scan(ravel(wide), axis=axis or 0) if flat else scan(wide, axis=axis), a), dtype)


@unary(np.cumsum)
def cumsum(a: Operand, axis: int | None = None, dtype: DTypeLike | None = None) -> Value:
    """Return the running sums of a along `axis` (None: of the flattened array), in `dtype`."""
    return _scanned(_cumsum, a, axis, dtype)


@unary(np.cumprod)
def cumprod(a: Operand, axis: int | None = None, dtype: DTypeLike | None = None) -> Value:
    """Return the running products of a along `axis` (None: of the flattened array), in `dtype`."""
    return _scanned(_cumprod, a, axis, dtype)


@unary(np.diff)
def diff(
    a: Operand, n: int = 1, axis: int = -1, prepend: Operand | None = None, append: Operand | None = None
) -> Value:
    """Return a[1:] - a[:-1] along `axis`, `n` times; `prepend` and `append` are joined to the ends of `a` before."""
    if n < 0:
        raise ShapeError(f"diff: n must not be negative, got {n}")
    if n == 0:
        return as_value(a)
    place = one("diff", axis, shape_of(a))
    ends = [_end(part, a, place) for part in (prepend, append)]
    parts = [*ends[0], a, *ends[1]]
    made = concatenate(parts, axis=place) if len(parts) > 1 else as_value(a)
    is_bool = np.result_type(made) == np.bool_
    for _ in range(n):
        later, earlier = part_of(made, place, slice(1, None)), part_of(made, place, slice(None, -1))
        made = np.not_equal(later, earlier) if is_bool else subtract(later, earlier)
    return made


def _end(part: Operand | None, a: Operand, axis: int) -> list[Operand]:
    if part is None:
        return []
    shape = shape_of(a)
    return [broadcast_to(part, (*shape[:axis], 1, *shape[axis + 1 :])) if not shape_of(part) else part]


@unary(np.cumulative_sum)
def cumulative_sum(
    x: Operand, /, *, axis: int | None = None, dtype: DTypeLike | None = None, include_initial: bool = False
) -> Value:
    """Return the running sums of x along `axis`, optional for a vector; with `include_initial`, starting at 0."""
    return _cumulative("cumulative_sum", _cumsum, x, axis, dtype, 0 if include_initial else None)


@unary(np.cumulative_prod)
def cumulative_prod(
    x: Operand, /, *, axis: int | None = None, dtype: DTypeLike | None = None, include_initial: bool = False
) -> Value:
    """Return the running products of x along `axis`, like `cumulative_sum`; with `include_initial`, starting at 1."""
    return _cumulative("cumulative_prod", _cumprod, x, axis, dtype, 1 if include_initial else None)


def _cumulative(
    function: str, scan: Scan, x: Operand, axis: int | None, dtype: DTypeLike | None, first: int | None
) -> Value:
    shape = shape_of(x)
    if axis is None and len(shape) != 1:
        raise ShapeError(f"{function}: expected a vector, or an axis for an operand of shape {shape}")
    place = one(function, 0 if axis is None else axis, shape)
    made = _scanned(scan, x, place, dtype)
    if first is None:
        return made
    start = np.full((*shape[:place], 1, *shape[place + 1 :]), first, made.dtype)
    return concatenate([start, made], axis=place)


@unary(np.trapezoid)
def trapezoid(y: Operand, x: Operand | None = None, dx: Operand = 1.0, axis: int = -1) -> Value:
    """Return the integral of y along `axis` by the trapezoidal rule, over points x, or points dx apart."""
    place = one("trapezoid", axis, shape_of(y))
    steps = dx
    if x is not None:
        steps = diff(x, axis=-1 if len(shape_of(x)) == 1 else place)
        if len(shape_of(x)) == 1:
            steps = reshape(steps, (-1, *(1,) * (len(shape_of(y)) - place - 1)))
    pairs = part_of(y, place, slice(1, None)) + part_of(y, place, slice(None, -1))
    return sum(multiply(multiply(steps, pairs), 0.5), axis=place)
