"""Primitives that move elements: reshape, transpose, broadcast, join and split."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import joining, unary
from ..engine.tape import Array, Attributes
from ..engine.tensor import Operand, Value, shape_of
from ..errors import DTypeError, ShapeError, UnsupportedError
from .axes import added, normalized, one, permuted, single
from .elementwise import astype


@primitive(np.reshape)
def reshape(x: Array, /, shape: int | tuple[int, ...], *, out: Array | None = None) -> Array:
    """Return x with another shape of as many elements; one length may be -1."""
    return delivered(np.reshape(x, shape), out)


@reshape.rule()
def _(g: Value, y: Value, x: Value, *, shape: int | tuple[int, ...]) -> Cotangents:
    return (np.reshape(g, x.shape),)


@primitive(np.transpose, canonical=permuted)
def transpose(x: Array, /, axes: Sequence[int] | None = None, *, out: Array | None = None) -> Array:
    """Return x with its axes in the order `axes` (None: reversed)."""
    return delivered(np.transpose(x, axes), out)


@transpose.rule()
def _(g: Value, y: Value, x: Value, *, axes: Sequence[int] | None) -> Cotangents:
    if axes is None:
        return (np.transpose(g),)
    return (np.transpose(g, tuple([axes.index(axis) for axis in range(len(axes))])),)


@primitive(np.broadcast_to)
def broadcast_to(x: Array, /, shape: int | tuple[int, ...], *, out: Array | None = None) -> Array:
    """Return x repeated along new or length-1 axes to `shape`; the engine sums the cotangent back."""
    return delivered(np.broadcast_to(x, shape), out)


@broadcast_to.rule()
def _(g: Value, y: Value, x: Value, *, shape: int | tuple[int, ...]) -> Cotangents:
    return (g,)


@primitive(canonical=single)
def _concatenate(*xs: Operand, axis: int = 0, out: Array | None = None) -> Value:
    return np.concatenate(xs, axis=axis, out=out)


@_concatenate.rule()
def _(g: Value, y: Value, *xs: Value, axis: int) -> Cotangents:
    ends = np.cumsum([x.shape[axis] for x in xs])
    return split(g, tuple(int(end) for end in ends[:-1]), axis=axis)


@joining(np.concatenate)
def concatenate(xs: Sequence[Operand], axis: int | None = 0, *, dtype: DTypeLike | None = None) -> Value:
    """Return the arrays of `xs` joined along an existing axis (None: each as one axis), in `dtype` if there is one."""
    parts = xs if axis is not None else [np.reshape(x, (-1,)) for x in xs]
    made = _concatenate(*parts, axis=axis or 0)
    return made if dtype is None else astype(made, dtype)


@primitive(canonical=added)
def _stack(*xs: Operand, axis: int = 0, out: Array | None = None) -> Value:
    return np.stack(xs, axis=axis, out=out)


@_stack.rule()
def _(g: Value, y: Value, *xs: Value, axis: int) -> Cotangents:
    return unstack(g, axis=axis)


@joining(np.stack)
def stack(xs: Sequence[Operand], axis: int = 0, *, dtype: DTypeLike | None = None) -> Value:
    """Return the arrays of `xs`, of one shape, joined along a new axis, in `dtype` if there is one."""
    made = _stack(*xs, axis=axis)
    return made if dtype is None else astype(made, dtype)


def _all_delivered(parts: Sequence[Array], out: tuple[Array, ...] | None) -> tuple[Array, ...]:
    if out is None:
        return tuple(parts)
    return tuple(delivered(part, buffer) for part, buffer in zip(parts, out, strict=True))


def _cuts(function: str, inputs: Sequence[object], attrs: Attributes) -> Attributes:
    """Return the attributes of a split with its axis normalized, and its indices as a tuple."""
    given = attrs["indices_or_sections"]
    try:
        cuts = tuple(map(operator.index, given)) if np.ndim(given) else operator.index(given)
    except TypeError as error:
        raise DTypeError(
            f"{function}: expected a number of sections or several indices, integers, got {given!r}"
        ) from error
    if isinstance(cuts, int) and cuts < 1:
        raise ShapeError(f"{function}: the number of sections must be at least 1, got {cuts}")
    return single(function, inputs, {**attrs, "indices_or_sections": cuts})


@primitive(np.split, multiple=True, canonical=_cuts)
def split(
    x: Array,
    /,
    indices_or_sections: int | Sequence[int] | Array,
    axis: int = 0,
    *,
    out: tuple[Array, ...] | None = None,
) -> tuple[Array, ...]:
    """Return x split along `axis` into equal sections, or at the given indices; the cotangents are joined again."""
    return _all_delivered(np.split(x, indices_or_sections, axis=axis), out)


@split.rule()
def _(gs: Sequence[Value], y: Value, x: Value, *, indices_or_sections: int | Sequence[int], axis: int) -> Cotangents:
    if sum(g.shape[axis] for g in gs) == x.shape[axis]:
        return (concatenate(gs, axis=axis),)
    assert not isinstance(indices_or_sections, int)  # sections do not overlap
    # Indices that go back, as in np.split(x, [2, 1]), make sections that overlap: an element has several cotangents.
    starts = [0, *(slice(index, None).indices(x.shape[axis])[0] for index in indices_or_sections)]
    return (
        functools.reduce(
            operator.add, (_widened(g, start, x.shape, axis) for g, start in zip(gs, starts, strict=True))
        ),
    )


def _widened(g: Value, start: int, shape: tuple[int, ...], axis: int) -> Value:
    """Return g with zeros before and after it along `axis`, so that it has a shape and begins at `start` in it."""
    before, after = list(shape), list(shape)
    before[axis], after[axis] = start, shape[axis] - start - g.shape[axis]
    return concatenate([np.zeros(before, g.dtype), g, np.zeros(after, g.dtype)], axis=axis)


@primitive(np.unstack, multiple=True, canonical=single)
def unstack(x: Array, /, axis: int = 0, *, out: tuple[Array, ...] | None = None) -> tuple[Array, ...]:
    """Return the slices of x along `axis`, without that axis: one node for all of them, so T steps cost O(T)."""
    parts = np.unstack(x, axis=axis) if np.ndim(x) != 1 else [x[n, ...] for n in range(len(x))]  # views, not numbers
    return _all_delivered(parts, out)


@unstack.rule()
def _(gs: Sequence[Value], y: Value, x: Value, *, axis: int) -> Cotangents:
    return (stack(gs, axis=axis),)


# -- derived --------------------------------------------------------------------------------------------------------


@unary(np.swapaxes)
def swapaxes(x: Operand, axis1: int, axis2: int) -> Value:
    """Return x with two axes exchanged."""
    shape = shape_of(x)
    first, second = (one("swapaxes", axis, shape, name) for axis, name in ((axis1, "axis1"), (axis2, "axis2")))
    axes = list(range(len(shape)))
    axes[first], axes[second] = second, first
    return transpose(x, tuple(axes))


@unary(np.moveaxis)
def moveaxis(a: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Value:
    """Return a with axes moved to new positions, the others in their order."""
    shape = shape_of(a)
    sources = normalized("moveaxis", source, shape, "source")
    places = normalized("moveaxis", destination, shape, "destination")
    if len(sources) != len(places):
        raise ShapeError(f"moveaxis: source and destination must name as many axes, got {source!r} and {destination!r}")
    order = [axis for axis in range(len(shape)) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(a, tuple(order))


@unary(np.expand_dims)
def expand_dims(a: Operand, axis: int | tuple[int, ...]) -> Value:
    """Return a with axes of length 1 inserted."""
    shape = shape_of(a)
    places = normalized("expand_dims", axis, shape, new=len(axis) if isinstance(axis, tuple | list) else 1)
    rest = iter(shape)
    return reshape(a, tuple(1 if i in places else next(rest) for i in range(len(shape) + len(places))))


@unary(np.squeeze)
def squeeze(a: Operand, axis: int | tuple[int, ...] | None = None) -> Value:
    """Return a without axes of length 1 (all of them, or those of `axis`)."""
    shape = shape_of(a)
    gone = [i for i, n in enumerate(shape) if n == 1] if axis is None else list(normalized("squeeze", axis, shape))
    if any(shape[i] != 1 for i in gone):
        raise ShapeError(f"squeeze: axis must name axes of length 1 of an operand of shape {shape}, got {axis!r}")
    return reshape(a, tuple(n for i, n in enumerate(shape) if i not in gone))


@unary(np.ravel)
def ravel(a: Operand, order: str = "C") -> Value:
    """Return a as one axis, the last index running fastest (`order` "C", the only one)."""
    if order not in ("C", "K", "A"):
        raise UnsupportedError(f"ravel: order must be 'C', got {order!r}; for columns first write ravel(transpose(a))")
    return reshape(a, (-1,))
