"""NumPy's reductions with all their keywords: sums, products, extremes, means, variances, medians.

The primitives of `reduce` and `scan` know `axis` and `keepdims`. Here `where=` masks (what is left out gets the
gradient 0, whatever its value), `dtype=` converts before, `initial=` joins a number, `ddof=` divides by n - ddof.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeGuard, overload

import numpy as np
from numpy.typing import DTypeLike

from ..engine.operands import as_value
from ..engine.signatures import unary
from ..engine.table import implements
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.types import Axis, Numbers
from ..errors import DTypeError, ShapeError, UnsupportedError, warn
from . import reduce, scan
from .arrange import part_of, sort
from .axes import normalized, reduced
from .elementwise import add, as_asked, astype, maximum, minimum, multiply, narrowed, subtract, widened
from .elementwise import where as choose
from .norms import root
from .shape import broadcast_to, moveaxis, reshape, transpose


def _axis(function: str, a: Operand, axis: Axis) -> Axis:
    """Return the axes of a reduction, counted from the front; errors name the function that the user called."""
    found: Axis = reduced(function, (a,), {"axis": axis})["axis"]
    return found


def _given(where: Operand | None) -> TypeGuard[Operand]:
    return where is not None and where is not True


def _in_dtype(function: str, a: Operand, dtype: DTypeLike | None) -> Operand:
    if isinstance(dtype, bool):
        raise DTypeError(f"{function}: dtype must be a dtype or None, got {dtype}; pass keepdims by its name")
    return a if dtype is None else astype(a, dtype)


def _masked(function: str, a: Operand, dtype: DTypeLike | None, where: Operand | None, neutral: Operand) -> Operand:
    """Return the operand in `dtype`, with `neutral` where it does not count."""
    a = _in_dtype(function, a, dtype)
    if not _given(where):
        return a
    if np.broadcast_shapes(shape_of(where), shape_of(a)) != shape_of(a):
        raise ShapeError(f"{function}: where of shape {shape_of(where)} must broadcast to {shape_of(a)}, that of a")
    return choose(where, a, neutral)


def _like(initial: Operand, total: Operand) -> Value:
    """Return a number to begin with in the dtype of what it is joined to, as NumPy takes it."""
    return initial if isinstance(initial, Tensor) else np.asarray(initial).astype(np.result_type(total))


@unary(np.sum)
def sum(
    a: Operand,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    keepdims: bool = False,
    initial: Operand | None = None,
    where: Operand | None = None,
) -> Value:
    """Return the sum of a over `axis` (None: all axes); see the module for the keywords.

    >>> import tinygrad_rnn as tr
    >>> x = tr.tensor([1.0, 2.0, 4.0], requires_grad=True)
    >>> y = tr.sum(x, where=x.data > 1, initial=10.0)
    >>> y.item(), tr.grad(y, x)
    (16.0, array([0., 1., 1.]))
    """
    total = as_asked(reduce.sum(_masked("sum", a, dtype, where, 0), axis=axis, keepdims=keepdims, out=out), dtype)
    return total if initial is None else add(total, _like(initial, total))


@unary(np.prod)
def prod(
    a: Operand,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    keepdims: bool = False,
    initial: Operand | None = None,
    where: Operand | None = None,
) -> Value:
    """Return the product of a over `axis` (None: all axes); zeros among the factors have their exact gradient."""
    axis = _axis("prod", a, axis)
    a = _masked("prod", a, dtype, where, 1)
    total = as_asked(narrowed(scan._prod(widened(a), axis=axis, keepdims=keepdims, out=out), a), dtype)
    return total if initial is None else multiply(total, _like(initial, total))


@unary(np.max, np.amax)
def max(
    a: Operand,
    axis: Axis = None,
    out: Array | None = None,
    keepdims: bool = False,
    initial: Operand | None = None,
    where: Operand | None = None,
) -> Value:
    """Return the largest element of a over `axis`; equal largest elements share the cotangent evenly."""
    return _extreme("max", reduce.max, maximum, a, axis, out, keepdims, initial, where)


@unary(np.min, np.amin)
def min(
    a: Operand,
    axis: Axis = None,
    out: Array | None = None,
    keepdims: bool = False,
    initial: Operand | None = None,
    where: Operand | None = None,
) -> Value:
    """Return the smallest element of a over `axis`; equal smallest elements share the cotangent evenly."""
    return _extreme("min", reduce.min, minimum, a, axis, out, keepdims, initial, where)


def _extreme(
    name: str,
    primitive: Callable[..., Value],
    join: Callable[..., Value],
    a: Operand,
    axis: Axis,
    out: Array | None,
    keepdims: bool,
    initial: Operand | None,
    where: Operand | None,
) -> Value:
    if initial is None:
        if _given(where):
            raise UnsupportedError(f"{name}: where= needs initial=, which is the result where nothing is chosen")
        return primitive(a, axis=axis, keepdims=keepdims, out=out)
    initial = _like(initial, a)
    if math.prod(shape_of(a)) == 0:  # nothing is chosen at all
        hollow = np.empty(shape_of(a))
        return broadcast_to(initial, getattr(np, name)(hollow, axis=axis, keepdims=keepdims, initial=0).shape)
    return join(primitive(_masked(name, a, None, where, initial), axis=axis, keepdims=keepdims, out=out), initial)


@unary(np.mean)
def mean(
    a: Operand,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    keepdims: bool = False,
    *,
    where: Operand | None = None,
) -> Value:
    """Return the mean of a over `axis` (None: all axes), of the elements where `where` holds."""
    a = _masked("mean", a, dtype, where, 0)
    if _given(where):
        total = reduce.sum(widened(a), axis=axis, keepdims=keepdims, out=out)
        made = narrowed(total / _count(where, a, axis, keepdims, total.dtype), a)
    else:
        made = reduce.mean(a, axis=axis, keepdims=keepdims, out=out)
    return as_asked(made, dtype)


def _count(where: Operand, a: Operand, axis: Axis, keepdims: bool, dtype: DTypeLike) -> Value:
    """Return how many elements count, in a dtype that leaves that of what is divided by it as it is."""
    number = reduce.sum(broadcast_to(where, shape_of(a)), axis=axis, keepdims=keepdims)
    return astype(number, dtype if np.dtype(dtype).kind in "fc" else np.float64)


@unary(np.var)
def var(
    a: Operand,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Operand | None = None,
    mean: Operand | None = None,
    correction: float | None = None,
) -> Value:
    """Return the variance sum((a - m) * (a - m)) / (n - ddof) over `axis`, m the mean of the n elements.

    Args:
        a: real numbers. Complex ones are for complex step: the product is analytic, unlike that of `np.var`.
        axis, dtype, keepdims, where: as of `sum`.
        out: refused for Tensors, as everywhere.
        ddof, correction: what is taken off n (one name or the other); 1 gives the unbiased estimate.
        mean: m, if it is known, with the axes kept.
    """
    axis = _axis("var", a, axis)
    ddof = ddof if correction is None else correction
    a = _masked("var", a, dtype, where, 0)
    if getattr(a, "dtype", None) == np.float16:  # squares of half precision overflow from 256 on
        return narrowed(var(widened(a), axis, None, out, ddof, keepdims, where=where, mean=mean), a)
    if mean is None:
        mean = _mean(a, axis, keepdims=True, where=where)
    centred = subtract(a, mean)
    squares = _mean(multiply(centred, centred), axis, out=out, keepdims=keepdims, where=where)
    if not ddof:
        return squares
    if _given(where):
        count = _count(where, a, axis, keepdims, squares.dtype)
        return squares * (count / (count - ddof))
    shape = shape_of(a)
    n = math.prod(shape if axis is None else (shape[place] for place in normalized("var", axis, shape)))
    if n <= ddof:
        warn(f"var: ddof={ddof} leaves nothing of {n} elements to divide by", RuntimeWarning)
    return squares * (float(n / (n - ddof)) if n > ddof else np.inf)


_mean = mean  # `var` has an argument of that name


@unary(np.std)
def std(
    a: Operand,
    axis: Axis = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Operand | None = None,
    mean: Operand | None = None,
    correction: float | None = None,
) -> Value:
    """Return the standard deviation, the square root of `var`; its derivative where all elements are equal is 0."""
    axis = _axis("std", a, axis)
    return root(var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction))


# -- others ---------------------------------------------------------------------------------------------------------


@unary(np.ptp)
def ptp(a: Operand, axis: Axis = None, out: Array | None = None, keepdims: bool = False) -> Value:
    """Return the largest minus the smallest element of a over `axis`."""
    axis = _axis("ptp", a, axis)
    return subtract(max(a, axis, out, keepdims), min(a, axis, out, keepdims))


@overload
def average(
    a: Tensor,
    axis: Axis = None,
    weights: Operand | None = None,
    returned: Literal[False] = False,
    *,
    keepdims: bool = ...,
) -> Tensor: ...
@overload
def average(
    a: Numbers,
    axis: Axis = None,
    weights: Numbers | None = None,
    returned: Literal[False] = False,
    *,
    keepdims: bool = ...,
) -> Array: ...
@overload
def average(
    a: Operand, axis: Axis = None, weights: Operand | None = None, returned: bool = False, *, keepdims: bool = ...
) -> Value | tuple[Value, Value]: ...
@implements(np.average)
def average(
    a: Operand, axis: Axis = None, weights: Operand | None = None, returned: bool = False, *, keepdims: bool = False
) -> Value | tuple[Value, Value]:
    """Return sum(a * weights) / sum(weights) over `axis`; weights of the shape of a, or of one axis, that of `axis`.

    With `returned`, also the sum of the weights.
    """
    shape, axis = shape_of(a), _axis("average", a, axis)
    if weights is None:
        made = mean(a, axis, keepdims=keepdims)
        return (made, _count(True, a, axis, keepdims, made.dtype)) if returned else made
    if shape_of(weights) != shape:
        axes = normalized("average", () if axis is None else axis, shape)
        if shape_of(weights) != tuple(shape[place] for place in axes):
            raise ShapeError(
                f"average: expected weights of shape {shape}, or of the lengths of axis {axis}, got {shape_of(weights)}"
            )
        weights = transpose(weights, tuple(int(place) for place in np.argsort(axes)))
        weights = reshape(weights, tuple(length if place in axes else 1 for place, length in enumerate(shape)))
        weights = broadcast_to(weights, shape)
    a, weights = as_value(a), as_value(weights)
    wide = [np.float64] if a.dtype.kind in "biu" else []  # products of bytes would be bytes
    a, weights = (astype(part, np.result_type(a, weights, *wide)) for part in (a, weights))
    total = sum(weights, axis, keepdims=keepdims)
    made = sum(multiply(a, weights), axis, keepdims=keepdims) / total
    return (made, total) if returned else made


@unary(np.median)
def median(
    a: Operand, axis: Axis = None, out: Array | None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Value:
    """Return the median over `axis`: the middle of the sorted elements, or the mean of the two in the middle."""
    shape = shape_of(a)
    axes = normalized("median", tuple(range(len(shape))) if axis is None else axis, shape)
    kept = [place for place in range(len(shape)) if place not in axes]
    last = len(kept)
    rows = moveaxis(a, axes, range(last, len(shape)))
    length = math.prod(shape[place] for place in axes)
    if length == 0:
        return reduce.mean(a, axis=axes, keepdims=keepdims)  # NaN, with NumPy's warning
    ordered = sort(reshape(rows, (*(shape[place] for place in kept), length)), -1)
    middle = part_of(ordered, last, slice((length - 1) // 2, length // 2 + 1))
    largest = part_of(ordered, last, -1)
    made = choose(np.isnan(largest), largest, reduce.mean(middle, axis=last))  # NaN is sorted to the end
    return reshape(made, tuple(1 if i in axes else n for i, n in enumerate(shape))) if keepdims else made


def _without_nan(a: Operand) -> Array:
    return np.logical_not(np.isnan(a))


@unary(np.nansum)
def nansum(a: Operand, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False) -> Value:
    """Return the sum of what is not NaN."""
    return sum(a, axis, dtype, keepdims=keepdims, where=_without_nan(a))


@unary(np.nanmean)
def nanmean(a: Operand, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False) -> Value:
    """Return the mean of what is not NaN."""
    return mean(a, axis, dtype, keepdims=keepdims, where=_without_nan(a))


@unary(np.nanvar)
def nanvar(
    a: Operand, axis: Axis = None, dtype: DTypeLike | None = None, *, ddof: float = 0, keepdims: bool = False
) -> Value:
    """Return the variance of what is not NaN."""
    return var(a, axis, dtype, ddof=ddof, keepdims=keepdims, where=_without_nan(a))


@unary(np.nanstd)
def nanstd(
    a: Operand, axis: Axis = None, dtype: DTypeLike | None = None, *, ddof: float = 0, keepdims: bool = False
) -> Value:
    """Return the standard deviation of what is not NaN."""
    return root(nanvar(a, axis, dtype, ddof=ddof, keepdims=keepdims))
