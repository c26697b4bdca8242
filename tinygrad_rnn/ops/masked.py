"""Masks and reductions of losses: which elements count, and how their losses become one."""

from __future__ import annotations

from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np

from ..engine.arrays import as_numbers
from ..engine.operands import without_gradient
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.types import Numbers
from ..errors import ConfigError, DTypeError, ShapeError, UnsupportedError
from .elementwise import divide
from .reduce import mean, sum

Reduction: TypeAlias = Literal["mean", "sum", "none"]
"""The mean over the elements that count, their sum, or the loss of each, 0 where it does not count."""

_REDUCTIONS: tuple[str, ...] = get_args(Reduction)


def check_floating(function: str, name: str, value: Operand) -> None:
    """Raise unless a value is of a floating point dtype (or complex, for complex steps)."""
    dtype = value.dtype if isinstance(value, Tensor) else as_numbers(value, f"{function}: {name}").dtype
    if dtype.kind not in "fc":
        raise DTypeError(
            f"{function}: expected floating point {name}, got dtype {dtype} of shape {shape_of(value)}; convert them, "
            f"for instance {name}.astype(np.float32)"
        )


def check_reduction(function: str, reduction: str) -> None:
    """Raise unless `reduction` is one of the three."""
    if reduction not in _REDUCTIONS:
        raise ConfigError(f"{function}: reduction must be one of {_REDUCTIONS}, got {reduction!r}")


def check_label(function: str, label: object) -> int:
    """Return an `ignore_label` if it is an integer."""
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise DTypeError(f"{function}: ignore_label must be an integer, got {label!r}")
    return int(label)


class NoConstantError(UnsupportedError):
    """A Tensor that requires a gradient, `operand`, stands where there is none."""

    operand: Tensor


def check_constant(function: str, name: str, value: Operand) -> None:
    """Raise if a value that gets no gradient is a Tensor that requires one."""
    if isinstance(value, Tensor) and value.requires_grad:
        error = NoConstantError(
            f"{function}: {name} are constants, and a Tensor that requires a gradient was given; pass {name}.data, or "
            "exchange the arguments if that is the prediction"
        )
        error.operand = value
        raise error


def numbers_like(function: str, name: str, given: Operand, like: Value) -> Value:
    """Return constants in the dtype of a prediction, if they have its shape.

    Raises:
        ShapeError, DTypeError, UnsupportedError: if they have not, are no real numbers, or want a gradient.
    """
    check_constant(function, name, given)
    shape, dtype = shape_of(like), np.empty(0, like.dtype).real.dtype

    checked = partial(_numbers_like, function=function, name=name, shape=shape, dtype=dtype)
    made: Value = without_gradient(name, checked, given)
    return made


def _numbers_like(
    given: Numbers, function: str, name: str, shape: tuple[int, ...], dtype: np.dtype[np.floating]
) -> Array:
    array = as_numbers(given, f"{function}: {name}")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{function}: expected {name} that are real numbers, got dtype {array.dtype}")
    if array.shape != shape:
        raise ShapeError(f"{function}: expected {name} of shape {shape}, that of the prediction, got {array.shape}")
    return array.astype(dtype)


def kept_of(function: str, mask: Operand | None, shape: tuple[int, ...], needed: bool) -> Value | None:
    """Return which elements of `shape` count, as booleans; None where all do.

    Args:
        function: what the user called, for messages.
        mask: booleans of the leading axes of `shape`, such as (N, T) for (N, T, D); or None.
        shape: of the losses.
        needed: whether one element at least must count, for the mean.

    Raises:
        ShapeError: if the mask is not of the leading axes, or one element is needed and none counts.
        DTypeError: if it is not boolean.
    """
    if mask is None:
        if needed and 0 in shape:
            raise ShapeError(f"{function}: there are no elements (shape {shape}); the mean is undefined")
        return None
    made: Value = without_gradient("mask", partial(_mask, function=function, shape=shape, needed=needed), mask)
    return made


def _mask(given: Numbers, function: str, shape: tuple[int, ...], needed: bool) -> Array:
    """Return a mask of the first axes of `shape` in that shape; see `kept_of`."""
    array = as_numbers(given, f"{function}: mask")
    if array.dtype != np.bool_:
        raise DTypeError(f"{function}: expected a mask of booleans, True where an element counts, got {array.dtype}")
    if array.shape != shape[: array.ndim]:
        raise ShapeError(
            f"{function}: expected a mask of shape {shape}, or of its first axes, for losses of shape {shape}, "
            f"got {array.shape}"
        )
    if needed and not array.any():
        raise ShapeError(f"{function}: all {array.size} positions are masked; the mean is undefined")
    whole = np.reshape(array, array.shape + (1,) * (len(shape) - array.ndim))
    return np.broadcast_to(whole, shape)


def reduced_loss(
    nats: Value, kept: Value | None, reduction: Reduction, dtype: np.dtype[np.generic], weights: Value | None = None
) -> Value:
    """Return the losses of all elements as one, or as they are.

    Args:
        nats: the loss of each element, 0 where it does not count.
        kept: which elements count, as `kept_of` returns it.
        reduction: how.
        dtype: real, in which elements are counted.
        weights: of each element in the mean, 0 where it does not count; None: 1.
    """
    if reduction == "none":
        return nats
    if reduction == "sum":
        return sum(nats)
    if weights is not None:
        return divide(sum(nats), sum(weights))
    if kept is None:
        return mean(nats)
    return divide(sum(nats), without_gradient("count", partial(_count, dtype=dtype), kept))


def _count(kept: Array, dtype: np.dtype[np.generic]) -> Array:
    return np.asarray(np.count_nonzero(kept), dtype)
