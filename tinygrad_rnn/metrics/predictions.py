"""Metrics of predictions, position by position: of classes and of numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..engine.operands import as_value, operand, without_gradient
from ..engine.tape import Array, no_grad
from ..engine.tensor import Operand, Tensor
from ..errors import DTypeError, ShapeError
from ..ops import astype, cross_entropy, stack
from ..ops.elementwise import widened
from ..ops.masked import check_label, kept_of
from .metric import Bits, Determination, Metric, Perplexity, RootMean


def accuracy(predictions: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Metric:
    """Return the share of positions whose target is predicted correctly.

    Args:
        predictions: ids (...), or logits (..., V), of which the largest counts (the first, if several are equal).
        targets: (...) ids, or `ignore_label` at positions that do not count.
        mask: booleans, True where a position counts, of shape (...) or of its first axes.
        ignore_label: target of positions that do not count.

    Raises:
        ShapeError, DTypeError: if targets, predictions and mask do not fit.
        IndexError: if a target that counts is not among the V classes of the logits.

    >>> accuracy([[0.1, 0.9], [0.2, 0.8], [3.0, 0.0]], [1, 0, -1]).value
    0.5
    """
    ignore_label = check_label("accuracy", ignore_label)
    predictions, targets = operand(predictions, "accuracy", "predictions"), operand(targets, "accuracy", "targets")
    kept = kept_of("accuracy", mask, targets.shape, False)
    return Metric(without_gradient("accuracy", partial(_hits, ignore_label=ignore_label), predictions, targets, kept))


def _hits(given: Operand, targets: Operand, kept: Array | None, ignore_label: int) -> Array:
    """Return the number of positions that are predicted correctly, and of those that count."""
    found, ids = np.asarray(given), np.asarray(targets)
    V = None
    if found.ndim == ids.ndim + 1 and found.shape[:-1] == ids.shape:
        found, V = np.argmax(found, axis=-1), found.shape[-1]
    if found.shape != ids.shape:
        raise ShapeError(
            f"accuracy: expected predictions of shape {ids.shape} or {(*ids.shape, 'V')}, for targets of shape "
            f"{ids.shape}, got {np.shape(given)}"
        )
    if ids.dtype.kind not in "iu" or found.dtype.kind not in "iu":
        raise DTypeError(f"accuracy: expected integer targets and ids or logits, got {ids.dtype} and {found.dtype}")
    counted = ids != ignore_label if kept is None else (ids != ignore_label) & kept
    if V is not None and (wrong := ids[counted & ((ids < 0) | (ids >= V))]).size:
        raise IndexError(
            f"accuracy: target {wrong[0]} is outside [0, V) with V={V}; masked positions must hold "
            f"ignore_label={ignore_label}"
        )
    return np.array([np.count_nonzero((found == ids) & counted), np.count_nonzero(counted)], np.float64)


def nats(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Metric:
    """Return the mean negative log-likelihood of the targets, in nats per position; see `cross_entropy`."""
    return Metric(_nats(logits, targets, mask, ignore_label))


def perplexity(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Perplexity:
    """Return exp of the mean negative log-likelihood; see `cross_entropy`.

    >>> import numpy as np
    >>> round(perplexity(np.zeros((2, 3, 4)), np.ones((2, 3), int)).value, 6)
    4.0
    """
    return Perplexity(_nats(logits, targets, mask, ignore_label))


def bits(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Bits:
    """Return the mean negative log-likelihood in bits per position (per character, where these are characters)."""
    return Bits(_nats(logits, targets, mask, ignore_label))


def mae(predictions: Operand, targets: Operand, mask: Operand | None = None) -> Metric:
    """Return the mean absolute error; arguments as for `rmse`."""
    return Metric(_errors("mae", predictions, targets, mask, _absolute))


def rmse(predictions: Operand, targets: Operand, mask: Operand | None = None) -> RootMean:
    """Return the root of the mean squared error.

    Args:
        predictions: any shape, real.
        targets: of that shape.
        mask: booleans, True where an element counts, of that shape or of its first axes.

    Raises:
        ShapeError, DTypeError: if they do not fit.
    """
    return RootMean(_errors("rmse", predictions, targets, mask, _squared))


def r2(predictions: Operand, targets: Operand, mask: Operand | None = None) -> Determination:
    """Return the coefficient of determination: 1 is perfect, 0 is as good as the mean of all targets.

    Columns that have different means need one each, `r2(y[:, k], t[:, k])`: together they look better than they are.
    Targets that are large beside their spread, such as times in seconds since 1970, need the same number subtracted
    from both first; the value is NaN else.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.5])
    Determination(0.653846 over 3 elements)
    """
    return Determination(_errors("r2", predictions, targets, mask, _moments))


def _absolute(y: Array, t: Array) -> Array:
    return np.stack([np.abs(y - t), np.ones_like(t)])


def _squared(y: Array, t: Array) -> Array:
    return np.stack([np.square(y - t), np.ones_like(t)])


def _moments(y: Array, t: Array) -> Array:
    return np.stack([np.square(y - t), t, np.square(t), np.ones_like(t)])


def _nats(logits: Operand, targets: Operand, mask: Operand | None, ignore_label: int) -> Array | Tensor:
    targets = operand(targets, "nats", "targets")
    kept = kept_of("nats", mask, targets.shape, False)
    with no_grad():
        total = cross_entropy(widened(as_value(logits)), targets, ignore_label, mask=kept, reduction="sum")
    count = without_gradient("count", partial(_counted, ignore_label=ignore_label), targets, kept)
    found: Array | Tensor = stack([astype(total, np.float64), count])
    return found


def _counted(targets: Operand, kept: Array | None, ignore_label: int) -> Array:
    there = np.asarray(targets) != ignore_label
    return np.asarray(np.count_nonzero(there if kept is None else there & kept), np.float64)


def _errors(
    function: str, predictions: Operand, targets: Operand, mask: Operand | None, terms: Callable[[Array, Array], Array]
) -> Array | Tensor:
    """Return the sums of terms (K, ...) of the predictions and targets that count."""
    predictions, targets = operand(predictions, function, "predictions"), operand(targets, function, "targets")
    kept = kept_of(function, mask, targets.shape, False)
    sums = partial(_sums, function=function, terms=terms)
    found: Array | Tensor = without_gradient(function, sums, predictions, targets, kept)
    return found


def _sums(
    predictions: Operand,
    targets: Operand,
    kept: Array | None,
    function: str,
    terms: Callable[[Array, Array], Array],
) -> Array:
    y, t = np.asarray(predictions), np.asarray(targets)
    if y.dtype.kind not in "biuf" or t.dtype.kind not in "biuf":
        raise DTypeError(f"{function}: expected real predictions and targets, got {y.dtype} and {t.dtype}")
    if y.shape != t.shape:
        raise ShapeError(f"{function}: expected predictions of shape {t.shape}, that of targets, got {y.shape}")
    if kept is not None:
        y, t = y[kept], t[kept]
    found: Array = terms(y.astype(np.float64), t.astype(np.float64))
    return np.asarray(found.reshape(len(found), -1).sum(axis=1))
