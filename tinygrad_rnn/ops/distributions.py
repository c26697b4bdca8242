"""The cross-entropy of target distributions: class weights, label smoothing, probabilities."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..engine.arrays import as_numbers
from ..engine.operands import as_value, without_gradient
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Numbers
from ..errors import DTypeError, ShapeError
from .elementwise import narrowed, widened
from .masked import Reduction, check_constant, reduced_loss
from .reduce import log_softmax


def are_probabilities(targets: Operand, shape: tuple[int, ...]) -> bool:
    """Return whether targets are distributions for logits of this shape, and not ids."""
    given = as_value(targets)
    return len(given.shape) == len(shape) and given.dtype.kind == "f" and given.shape == shape


def masked_ids(targets: Numbers, kept: Array, ignore_label: int) -> Array:
    """Return ids with `ignore_label` where a mask says that they do not count; what does not fit stays as it is."""
    ids = np.asarray(targets)
    if ids.dtype.kind not in "iu" or ids.shape != kept.shape:
        return ids
    if ids.dtype.kind == "u" or not np.iinfo(ids.dtype).min <= ignore_label <= np.iinfo(ids.dtype).max:
        ids = ids.astype(np.int64)
    return np.where(kept, ids, ignore_label)


def one_hot(ids: Value, kept: Value, logits: Operand) -> Value:
    """Return (..., V) with a 1 at each id that is kept, in the dtype of the logits, float32 at least."""
    V, dtype = shape_of(logits)[-1], _real(logits)

    made: Value = without_gradient("one hot", partial(_one_hot, V=V, dtype=dtype), ids, kept)
    return made


def _one_hot(ids: Array, kept: Array, V: int, dtype: np.dtype[np.floating]) -> Array:
    made = np.zeros((*ids.shape, V), dtype)
    np.put_along_axis(made, np.where(kept, ids, 0)[..., None].astype(np.intp), kept[..., None].astype(dtype), axis=-1)
    return made


def distribution_loss(
    logits: Operand,
    targets: Operand,
    kept: Value | None,
    ids: Value | None,
    class_weights: Operand | None,
    smoothing: float,
    reduction: Reduction,
) -> Value:
    """Return the cross-entropy of target distributions; see `cross_entropy`.

    Args:
        logits: (..., V), floating point.
        targets: (..., V), the distributions, of any floating point dtype.
        kept: which positions count; None: all.
        ids: (...), of which the distributions were made; None: of none.
        class_weights: (V,) or None.
        smoothing: in [0, 1].
        reduction: as in `cross_entropy`.
    """
    check_constant("cross_entropy", "targets", targets)
    shape, dtype = shape_of(logits), _real(logits)
    weights = None
    if class_weights is not None:
        weights = without_gradient("weights", partial(_class_weights, shape=shape, dtype=dtype), class_weights)
    q = without_gradient("distribution", partial(_smoothed, smoothing=smoothing, dtype=dtype), targets, kept, weights)
    wide = widened(as_value(logits))
    if kept is not None:
        wide = np.where(kept[..., None], wide, 0)
    nats = 0.0 - np.sum(q * np.where(q > 0, log_softmax(wide), 0), axis=-1)  # a minus alone makes -0.0 of a loss of 0
    shares = None
    if ids is not None and weights is not None:
        shares = without_gradient("shares", partial(_shares, needed=reduction == "mean"), ids, kept, weights)
    return narrowed(reduced_loss(nats, kept, reduction, dtype, shares), logits)


def _real(logits: Operand) -> np.dtype[np.floating]:
    given = as_value(logits)
    return np.promote_types(np.empty(0, given.dtype).real.dtype, np.float32)


def _class_weights(given: Numbers, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    array = as_numbers(given, "cross_entropy: class_weights")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"cross_entropy: expected class_weights that are real numbers, got dtype {array.dtype}")
    if array.shape != shape[-1:]:
        raise ShapeError(
            f"cross_entropy: expected class_weights of shape (V,) = {shape[-1:]} for logits of shape {shape}, "
            f"got {array.shape}"
        )
    _check_not_negative("class_weights", array)
    return array.astype(dtype)


def _check_not_negative(what: str, array: Array) -> None:
    wrong = np.argwhere(~((array >= 0) & np.isfinite(array)))
    if wrong.size:
        first = array[tuple(wrong[0])]
        raise ValueError(f"cross_entropy: expected {what} of 0 or more, finite, got {first} at {wrong[0].tolist()}")


def _smoothed(
    given: Numbers, kept: Array | None, weights: Array | None, smoothing: float, dtype: np.dtype[np.floating]
) -> Array:
    """Return target distributions (..., V), smoothed and weighted, 0 where masked."""
    targets = np.asarray(given)
    if kept is not None:
        targets = np.where(kept[..., None], targets, 0)
    _check_not_negative("target probabilities", targets)
    q = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    q = q if weights is None else q * weights
    return (q if kept is None else np.where(kept[..., None], q, 0)).astype(dtype)


def _shares(ids: Array, kept: Array, weights: Array, needed: bool) -> Array:
    """Return the weight of each position in the mean: that of its target, 0 where masked."""
    found = np.where(kept, weights[np.where(kept, ids, 0)], 0)
    if needed and not found.any():
        raise ShapeError("cross_entropy: every position is masked or has the weight 0; the mean is undefined")
    return found
