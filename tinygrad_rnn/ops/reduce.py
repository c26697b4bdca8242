"""Primitives that reduce over axes, and the two fused logarithms of sums that a language model needs.

NumPy's other keywords are added in `statistics`, whose functions of these names users see.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value
from ..engine.types import Axis
from .axes import reduced
from .elementwise import narrowed, undefined, widened


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def _keep_axes(value: Value, x: Value, axis: Axis) -> Value:
    """Return a reduced `value` with the axes that `axis` removed from the shape of `x` put back, with length 1."""
    axes = _axes(axis, x.ndim)
    return np.reshape(value, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _added_up(f: Callable[..., object], x: Array, axis: Axis, keepdims: bool, out: Array | None) -> Array:
    """Return f(x), a sum or a mean; of half precision it is added up in float32, and rounded once."""
    if getattr(x, "dtype", None) != np.float16:
        return np.asarray(f(x, axis=axis, keepdims=keepdims, out=out))
    return delivered(np.asarray(f(x, axis=axis, keepdims=keepdims, dtype=np.float32)).astype(np.float16), out)


@primitive(canonical=reduced)
def sum(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the sum of x over `axis` (None: all axes)."""
    return _added_up(np.sum, x, axis, keepdims, out)


@sum.rule()
def _(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Cotangents:
    return (np.broadcast_to(_keep_axes(g, x, axis), x.shape),)


@primitive(canonical=reduced)
def mean(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the mean of x over `axis` (None: all axes)."""
    return _added_up(np.mean, x, axis, keepdims, out)


@mean.rule()
def _(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Cotangents:
    count = math.prod(x.shape[a] for a in _axes(axis, x.ndim))  # may be too large for half precision
    return (np.broadcast_to(_keep_axes(widened(g) / count, x, axis), x.shape),)


@primitive(analytic=False, canonical=reduced)
def max(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the largest element of x over `axis`; equal largest elements share the cotangent evenly.

    Where the result is NaN, because an element is, the derivative of each element is NaN.
    """
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims, out=out))


@max.rule(keep="y x")
def _(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Cotangents:
    y, g = _keep_axes(y, x, axis), _keep_axes(widened(g), x, axis)
    largest = x == y
    count = np.sum(largest, axis=_axes(axis, x.ndim), keepdims=True)
    return (np.where(largest, g / np.where(y == y, count, 1), np.where(y == y, 0, undefined(g))),)


@primitive(analytic=False, canonical=reduced)
def min(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the smallest element of x over `axis`; equal smallest elements share the cotangent; NaN as in `max`."""
    return np.asarray(np.min(x, axis=axis, keepdims=keepdims, out=out))


min.rule(keep="y x")(max.pull)  # which looks for the elements that are equal to the result


@primitive(canonical=reduced)
def logsumexp(x: Array, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return log(sum(exp(x))) over `axis`, without overflow; its derivative is softmax(x).

    Where every element is -inf (a sum of no probability at all), or there is none, the result is -inf, and the
    derivative is 0.
    """
    values = _floating(x)
    axes, wide = _axes(axis, values.ndim), widened(values)
    shift = _shift(wide, axis)
    with np.errstate(divide="ignore"):  # log(0)
        total = np.log(np.sum(np.exp(wide - shift), axis=axes, keepdims=True)) + shift
    return delivered(np.asarray(total if keepdims else np.squeeze(total, axis=axes), values.dtype), out)


@logsumexp.rule(keep="y x")
def _(g: Value, y: Value, x: Value, *, axis: Axis, keepdims: bool) -> Cotangents:
    y = _keep_axes(y, x, axis)
    return (_keep_axes(g, x, axis) * np.exp(x - np.where(y == -np.inf, 0, y)),)


def _floating(x: Array) -> Array:
    """Return an array with whole numbers as float64, in which `np.mean` computes with them too."""
    values = np.asarray(x)
    return values if values.dtype.kind in "fc" else values.astype(np.float64)


def _shift(x: Array, axis: Axis) -> Array:
    """Return what to subtract before exp: the largest real part, and 0 where that is infinite, or there is none."""
    if x.size == 0:
        return np.asarray(np.sum(x.real, axis=_axes(axis, x.ndim), keepdims=True))
    largest = np.max(x.real, axis=_axes(axis, x.ndim), keepdims=True)
    return np.asarray(np.where(np.isfinite(largest), largest, np.zeros_like(largest)))


@primitive(canonical=reduced)
def log_softmax(x: Array, /, axis: Axis = -1, *, out: Array | None = None) -> Array:
    """Return x - logsumexp(x) over `axis` (None: all axes): the log-probabilities, in nats, of logits x.

    Where every element is -inf there is no distribution: the results are NaN, and so are the derivatives.
    """
    given = _floating(x)
    values = widened(given)
    own = out if out is not None and out.dtype == values.dtype else None
    shifted = np.subtract(values, _shift(values, axis), out=own)
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    result = np.subtract(shifted, total, out=own)
    return result if own is not None else delivered(np.asarray(result, given.dtype), out)


@log_softmax.rule(keep="y")
def _(g: Value, y: Value, x: Value, *, axis: Axis) -> Cotangents:
    return (g - np.exp(widened(y)) * np.sum(widened(g), axis=axis, keepdims=True),)


# -- derived --------------------------------------------------------------------------------------------------------


@unary()
def softmax(x: Operand, axis: Axis = -1) -> Value:
    """Return exp(log_softmax(x)): probabilities that add up to 1 over `axis` (None: all axes).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.softmax(np.zeros(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return narrowed(np.exp(log_softmax(widened(x), **reduced("softmax", (x,), {"axis": axis}))), x)
