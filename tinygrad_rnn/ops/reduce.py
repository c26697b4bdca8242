"""Primitives that reduce over axes, and the two fused logarithms of sums that a language model needs.

NumPy's other keywords are added in `statistics`, whose functions of these names users see.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Axis, Operand
from .axes import reduced


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def _keep_axes(value: Any, x: Any, axis: Axis) -> Any:
    """Return a reduced `value` with the axes that `axis` removed from the shape of `x` put back, with length 1."""
    axes = _axes(axis, x.ndim)
    return np.reshape(value, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


@primitive(canonical=reduced)
def sum(x: Operand, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the sum of x over `axis` (None: all axes)."""
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims, out=out))


@sum.rule()
def _(g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return (np.broadcast_to(_keep_axes(g, x, axis), x.shape),)


@primitive(canonical=reduced)
def mean(x: Operand, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the mean of x over `axis` (None: all axes)."""
    return np.asarray(np.mean(x, axis=axis, keepdims=keepdims, out=out))


@mean.rule()
def _(g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    count = int(np.prod([x.shape[a] for a in _axes(axis, x.ndim)], dtype=int))
    return (np.broadcast_to(_keep_axes(g / count, x, axis), x.shape),)


@primitive(analytic=False, canonical=reduced)
def max(x: Operand, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the largest element of x over `axis`; equal largest elements share the cotangent evenly."""
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims, out=out))


@max.rule(keep="y x")
def _(g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    largest = x == _keep_axes(y, x, axis)
    count = np.sum(largest, axis=_axes(axis, x.ndim), keepdims=True)
    return (np.where(largest, _keep_axes(g, x, axis) / count, 0),)


@primitive(analytic=False, canonical=reduced)
def min(x: Operand, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return the smallest element of x over `axis`; equal smallest elements share the cotangent evenly."""
    return np.asarray(np.min(x, axis=axis, keepdims=keepdims, out=out))


min.rule(keep="y x")(max.pull)  # which looks for the elements that are equal to the result


@primitive(canonical=reduced)
def logsumexp(x: Operand, /, axis: Axis = None, keepdims: bool = False, *, out: Array | None = None) -> Array:
    """Return log(sum(exp(x))) over `axis`, without overflow; its derivative is softmax(x)."""
    values = np.asarray(x)
    shift = _shift(values, axis)
    total = np.log(np.sum(np.exp(values - shift), axis=_axes(axis, values.ndim), keepdims=True)) + shift
    return delivered(np.asarray(total if keepdims else np.squeeze(total, axis=_axes(axis, values.ndim))), out)


@logsumexp.rule(keep="y x")
def _(g: Any, y: Any, x: Any, *, axis: Axis, keepdims: bool) -> Any:
    return (_keep_axes(g, x, axis) * np.exp(x - _keep_axes(y, x, axis)),)


def _shift(x: Array, axis: Axis) -> Array:
    """Return what to subtract before exp: the largest real part, and 0 where that is infinite."""
    largest = np.max(x.real, axis=_axes(axis, x.ndim), keepdims=True)
    return np.asarray(np.where(np.isfinite(largest), largest, np.zeros_like(largest)))


@primitive(canonical=reduced)
def log_softmax(x: Operand, /, axis: Axis = -1, *, out: Array | None = None) -> Array:
    """Return x - logsumexp(x) over `axis` (None: all axes): the log-probabilities, in nats, of logits x."""
    values = np.asarray(x)
    shifted = np.subtract(values, _shift(values, axis), out=out)
    total = np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return np.asarray(np.subtract(shifted, total, out=out))


@log_softmax.rule(keep="y")
def _(g: Any, y: Any, x: Any, *, axis: Axis) -> Any:
    return (g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),)


# -- derived --------------------------------------------------------------------------------------------------------


def softmax(x: Operand, axis: Axis = -1) -> Any:
    """Return exp(log_softmax(x)): probabilities that add up to 1 over `axis` (None: all axes).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.softmax(np.zeros(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return np.exp(log_softmax(x, **reduced("softmax", (x,), {"axis": axis})))
