"""Primitives that move elements: reshape, transpose, broadcast, join and split."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Operand, implements


@primitive(np.reshape)
def reshape(x: Operand, /, shape: int | tuple[int, ...], *, out: Array | None = None) -> Array:
    """Return x with another shape of as many elements; one length may be -1."""
    return delivered(np.reshape(x, shape), out)


@reshape.rule()
def _(g: Any, y: Any, x: Any, *, shape: Any) -> Any:
    return (np.reshape(g, x.shape),)


@primitive(np.transpose)
def transpose(x: Operand, /, axes: Sequence[int] | None = None, *, out: Array | None = None) -> Array:
    """Return x with its axes in the order `axes` (None: reversed)."""
    return delivered(np.transpose(x, axes), out)


@transpose.rule()
def _(g: Any, y: Any, x: Any, *, axes: Sequence[int] | None) -> Any:
    if axes is None:
        return (np.transpose(g),)
    inverse = np.argsort([axis % x.ndim for axis in axes])
    return (np.transpose(g, tuple(int(axis) for axis in inverse)),)


@primitive(np.broadcast_to)
def broadcast_to(x: Operand, /, shape: int | tuple[int, ...], *, out: Array | None = None) -> Array:
    """Return x repeated along new or length-1 axes to `shape`; the engine sums the cotangent back."""
    return delivered(np.broadcast_to(x, shape), out)


@broadcast_to.rule()
def _(g: Any, y: Any, x: Any, *, shape: Any) -> Any:
    return (g,)


@primitive()
def _concatenate(*xs: Operand, axis: int = 0, out: Array | None = None) -> Array:
    return np.concatenate(xs, axis=axis, out=out)


@_concatenate.rule()
def _(g: Any, y: Any, *xs: Any, axis: int) -> Any:
    ends = np.cumsum([x.shape[axis] for x in xs])
    return split(g, tuple(int(end) for end in ends[:-1]), axis=axis)


@implements(np.concatenate)
def concatenate(xs: Sequence[Operand], axis: int = 0) -> Any:
    """Return the arrays of `xs` joined along an existing axis."""
    return _concatenate(*xs, axis=axis)


@primitive()
def _stack(*xs: Operand, axis: int = 0, out: Array | None = None) -> Array:
    return np.stack(xs, axis=axis, out=out)


@_stack.rule()
def _(g: Any, y: Any, *xs: Any, axis: int) -> Any:
    return unstack(g, axis=axis)


@implements(np.stack)
def stack(xs: Sequence[Operand], axis: int = 0) -> Any:
    """Return the arrays of `xs`, of one shape, joined along a new axis."""
    return _stack(*xs, axis=axis)


def _all_delivered(parts: Sequence[Array], out: tuple[Array, ...] | None) -> tuple[Array, ...]:
    if out is None:
        return tuple(parts)
    return tuple(delivered(part, buffer) for part, buffer in zip(parts, out, strict=True))


@primitive(np.split, multiple=True)
def split(
    x: Operand, /, indices_or_sections: int | Sequence[int], axis: int = 0, *, out: tuple[Array, ...] | None = None
) -> tuple[Array, ...]:
    """Return x cut along `axis` into equal sections, or at the given indices; the cotangents are joined again."""
    return _all_delivered(np.split(x, indices_or_sections, axis=axis), out)


@split.rule()
def _(gs: Any, y: Any, x: Any, *, indices_or_sections: Any, axis: int) -> Any:
    if sum(g.shape[axis] for g in gs) == x.shape[axis]:
        return (concatenate(gs, axis=axis),)
    # Indices that go back, as in np.split(x, [2, 1]), make sections that overlap: an element has several cotangents.
    starts = [0, *(slice(index, None).indices(x.shape[axis])[0] for index in indices_or_sections)]
    return (
        functools.reduce(
            operator.add, (_widened(g, start, x.shape, axis) for g, start in zip(gs, starts, strict=True))
        ),
    )


def _widened(g: Any, start: int, shape: tuple[int, ...], axis: int) -> Any:
    """Return g with zeros before and after it along `axis`, so that it has a shape and begins at `start` in it."""
    before, after = list(shape), list(shape)
    before[axis], after[axis] = start, shape[axis] - start - g.shape[axis]
    return concatenate([np.zeros(before, g.dtype), g, np.zeros(after, g.dtype)], axis=axis)


@primitive(np.unstack, multiple=True)
def unstack(x: Operand, /, axis: int = 0, *, out: tuple[Array, ...] | None = None) -> tuple[Array, ...]:
    """Return the slices of x along `axis`, without that axis: one node for all of them, so T steps cost O(T)."""
    return _all_delivered(np.unstack(x, axis=axis), out)


@unstack.rule()
def _(gs: Any, y: Any, x: Any, *, axis: int) -> Any:
    return (stack(gs, axis=axis),)


# -- derived --------------------------------------------------------------------------------------------------------


@implements(np.swapaxes)
def swapaxes(x: Operand, axis1: int, axis2: int) -> Any:
    """Return x with two axes exchanged."""
    axes = list(range(np.ndim(x)))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, tuple(axes))


@implements(np.moveaxis)
def moveaxis(a: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Return a with axes moved to new places, the others in their order."""
    # NumPy moves the axes of an array whose axis lengths are the axis numbers: its shape is then the order.
    order = np.moveaxis(np.broadcast_to(np.int8(0), tuple(range(np.ndim(a)))), source, destination).shape
    return transpose(a, order)


@implements(np.expand_dims)
def expand_dims(a: Operand, axis: int | tuple[int, ...]) -> Any:
    """Return a with axes of length 1 put in."""
    return reshape(a, _placeholder(a, np.expand_dims, axis))


@implements(np.squeeze)
def squeeze(a: Operand, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return a without axes of length 1 (all of them, or those of `axis`)."""
    return reshape(a, _placeholder(a, np.squeeze, axis))


def _placeholder(a: Operand, function: Any, axis: Any) -> tuple[int, ...]:
    """Return the shape that NumPy's own `function` gives, from an array that takes no memory."""
    shape: tuple[int, ...] = function(np.broadcast_to(np.int8(0), np.shape(a)), axis=axis).shape
    return shape


@implements(np.ravel)
def ravel(a: Operand) -> Any:
    """Return a as one axis."""
    return reshape(a, (-1,))
