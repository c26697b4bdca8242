"""Losses of predicted numbers: squared, absolute and Huber errors, and the likelihood of a normal distribution."""

from __future__ import annotations

import math

import numpy as np

from ..checks import number
from ..engine.operands import as_value
from ..engine.signatures import binary, unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..errors import ShapeError
from .elementwise import absolute, multiply, narrowed, widened
from .masked import Reduction, check_floating, check_reduction, kept_of, numbers_like, reduced_loss


def _errors(
    function: str, predictions: Operand, targets: Operand, mask: Operand | None, reduction: Reduction
) -> tuple[Value, Value | None]:
    """Return predictions - targets, 0 where masked, in float32 at least; and which elements count."""
    check_reduction(function, reduction)
    check_floating(function, "predictions", predictions)
    found = widened(as_value(predictions))
    error = found - numbers_like(function, "targets", targets, found)
    kept = kept_of(function, mask, shape_of(error), reduction == "mean")
    return (error if kept is None else np.where(kept, error, 0)), kept


def _one(losses: Value, kept: Value | None, reduction: Reduction, predictions: Operand) -> Value:
    return narrowed(reduced_loss(losses, kept, reduction, np.empty(0, losses.dtype).real.dtype), predictions)


@unary()
def mse(predictions: Operand, targets: Operand, mask: Operand | None = None, *, reduction: Reduction = "mean") -> Value:
    """Return the mean squared error, (y - t)^2.

    Args:
        predictions: y, any shape, floating point.
        targets: t, of the same shape, real numbers; constants.
        mask: booleans, True where an element counts; of that shape, or of its first axes, such as (N, T) for
            (N, T, D). None: all count.
        reduction: "mean" over the elements that count, "sum", or "none" for the error of each, 0 where masked.

    Returns:
        A 0-d Tensor (a 0-d array if predictions is an array) of the dtype of predictions; with "none", of their shape.

    Raises:
        ShapeError: if shapes do not fit (nothing is broadcast), or the mean is wanted of no element.
        DTypeError: if predictions are not floating point, targets not real or the mask not boolean.
        UnsupportedError: if targets is a Tensor that requires a gradient, for it would get none.
        ConfigError: if there is no such reduction.

    The gradient at a masked element is exactly 0, whatever is predicted there, infinite or NaN.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> float(tr.mse(np.array([1.0, 5.0, np.nan]), [0.0, 2.0, 7.0], mask=[True, True, False]))
    5.0
    """
    error, kept = _errors("mse", predictions, targets, mask, reduction)
    return _one(np.square(error), kept, reduction, predictions)


@unary()
def mae(predictions: Operand, targets: Operand, mask: Operand | None = None, *, reduction: Reduction = "mean") -> Value:
    """Return the mean absolute error, |y - t|; arguments and errors as for `mse`. At y = t the gradient is 0.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> float(tr.mae(np.array([1.0, 5.0]), [0.0, 2.0]))
    2.0
    """
    error, kept = _errors("mae", predictions, targets, mask, reduction)
    return _one(_magnitude(error), kept, reduction, predictions)


@unary()
def huber(
    predictions: Operand,
    targets: Operand,
    mask: Operand | None = None,
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
) -> Value:
    """Return the mean Huber loss: half the squared error e where |e| <= delta, and delta * (|e| - delta / 2) beyond.

    Source: Huber 1964, Robust estimation of a location parameter. Arguments and errors as for `mse`.

    Args:
        predictions: y, any shape, floating point.
        targets: t, of the same shape.
        mask: True where an element counts.
        delta: where the line begins, above 0.
        reduction: "mean", "sum" or "none".

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.huber(np.array([0.5, -3.0]), [0.0, 0.0], reduction="none")
    array([0.125, 2.5  ])
    """
    delta = number("huber", "delta", delta, low=0, above=True)
    error, kept = _errors("huber", predictions, targets, mask, reduction)
    size = _magnitude(error)
    near = np.minimum(size, delta)
    return _one(near * (size - 0.5 * near), kept, reduction, predictions)


@binary()
def gaussian_nll(
    mean: Operand,
    log_variance: Operand,
    targets: Operand,
    mask: Operand | None = None,
    *,
    reduction: Reduction = "mean",
) -> Value:
    """Return the mean negative log-likelihood of targets under normal distributions, in nats per element.

    loss = (log_variance + (t - mean)^2 * exp(-log_variance) + log(2 pi)) / 2.
    Source: Nix and Weigend 1994, Estimating the mean and variance of the target probability distribution. The logarithm
    of the variance may be any number, so that it can be an output of a network as it is.

    Args:
        mean: any shape, floating point.
        log_variance: of the same shape, floating point.
        targets: t, of the same shape, real numbers; constants.
        mask: True where an element counts, as in `mse`.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError, DTypeError, UnsupportedError, ConfigError: as `mse`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> round(float(tr.gaussian_nll(np.zeros(2), np.zeros(2), [0.0, 1.0])), 6)  # log(2 pi) / 2 + 1 / 4
    1.168939
    """
    error, kept = _errors("gaussian_nll", mean, targets, mask, reduction)
    check_floating("gaussian_nll", "log_variance", log_variance)
    spread = widened(as_value(log_variance))
    if shape_of(spread) != shape_of(error):
        raise ShapeError(
            f"gaussian_nll: expected log_variance of shape {shape_of(error)}, that of mean, got {shape_of(spread)}"
        )
    if kept is not None:
        spread = np.where(kept, spread, 0)
    nats = 0.5 * (spread + np.square(error) * np.exp(-spread) + math.log(2 * math.pi))
    return _one(nats if kept is None else np.where(kept, nats, 0), kept, reduction, mean)


def _magnitude(error: Value) -> Value:
    """Return |error|; of a complex step, along the real axis."""
    if isinstance(error, np.ndarray) and np.iscomplexobj(error):
        signs: Array = np.sign(error.real)
        return multiply(error, signs)
    return absolute(error)
