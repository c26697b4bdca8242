"""Axis arguments of operations: checked once, and counted from the front from then on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..engine.tape import Attributes
from ..engine.tensor import shape_of
from ..errors import DTypeError, ShapeError


def normalized(
    function: str, axis: int | Sequence[int], shape: Sequence[int], argument: str = "axis", new: int = 0
) -> tuple[int, ...]:
    """Return the axes that `axis` names, an integer or several, counted from the front.

    Args:
        function: for messages.
        axis: an integer or a sequence of them; negative ones count from the end.
        shape: of the operand.
        argument: name of the axis in messages.
        new: axes that the result has more than the operand; `axis` may name those too.

    Raises:
        ShapeError: if an axis is out of range, or named twice.
        DTypeError: if an axis is not an integer.

    >>> normalized("sum", (-1, 0), (2, 3, 4))
    (2, 0)
    """
    ndim = len(shape) + new
    if type(axis) is int and -ndim <= axis < ndim:  # the usual cases, without what takes time
        return (axis % ndim,)
    is_plain = isinstance(axis, tuple) and all(type(part) is int and 0 <= part < ndim for part in axis)
    if isinstance(axis, tuple) and is_plain and len(set(axis)) == len(axis):
        return axis
    if any(isinstance(part, bool | np.bool_) for part in (axis if isinstance(axis, tuple | list) else (axis,))):
        raise DTypeError(f"{function}: {argument} must be an integer or a tuple of integers, got {axis!r}")
    try:
        return tuple(int(part) for part in normalize_axis_tuple(axis, ndim))
    except TypeError as error:
        raise DTypeError(f"{function}: {argument} must be an integer or a tuple of integers, got {axis!r}") from error
    except np.exceptions.AxisError as error:
        room = f"lie in [{-ndim}, {ndim})" if ndim else "be left out"
        raise ShapeError(
            f"{function}: {argument} must {room} for an operand of shape {tuple(shape)}"
            f"{f' and {new} new axes' if new > 1 else ' and a new axis' if new else ''}, got {axis!r}"
        ) from error
    except ValueError as error:
        raise ShapeError(
            f"{function}: {argument} must name each axis of an operand of shape {tuple(shape)} once, got {axis!r}"
        ) from error


def one(function: str, axis: int | Sequence[int], shape: Sequence[int], argument: str = "axis", new: int = 0) -> int:
    """Return what a single axis is, counted from the front; arguments and errors as of `normalized`."""
    if isinstance(axis, tuple | list | None):
        raise DTypeError(f"{function}: {argument} must be one integer, got {axis!r}")
    return normalized(function, axis, shape, argument, new)[0]


def reduced(function: str, inputs: Sequence[object], attrs: Attributes) -> Attributes:
    """Return the attributes of a reduction with its `axis` normalized: None, an integer, or a tuple of them."""
    axis = attrs["axis"]
    if axis is None:
        return attrs
    shape = shape_of(inputs[0])
    if not shape and isinstance(axis, int) and axis in (0, -1):
        return {**attrs, "axis": ()}  # NumPy lets a single number be reduced along its only axis, which it has not
    axes = normalized(function, axis, shape)
    return {**attrs, "axis": axes if isinstance(axis, tuple | list) else axes[0]}


def single(function: str, inputs: Sequence[object], attrs: Attributes) -> Attributes:
    """Return attributes with `axis` normalized, which must be one axis of the first operand."""
    return {**attrs, "axis": one(function, attrs["axis"], _first(function, inputs))}


def added(function: str, inputs: Sequence[object], attrs: Attributes) -> Attributes:
    """Return attributes with `axis` normalized, which is an axis of the result that the operands lack."""
    return {**attrs, "axis": one(function, attrs["axis"], _first(function, inputs), new=1)}


def _first(function: str, inputs: Sequence[object]) -> tuple[int, ...]:
    """Return the shape of the first operand."""
    if not inputs:
        raise ShapeError(f"{function}: expected at least one array, got none")
    return shape_of(inputs[0])


def permuted(function: str, inputs: Sequence[object], attrs: Attributes) -> Attributes:
    """Return attributes with `axes` normalized, which must name each axis of the operand."""
    axes, shape = attrs["axes"], shape_of(inputs[0])
    if axes is None:
        return attrs
    order = normalized(function, axes, shape, "axes")
    if len(order) != len(shape):
        raise ShapeError(f"{function}: axes must name each axis of an operand of shape {shape} once, got {axes!r}")
    return {**attrs, "axes": order}
