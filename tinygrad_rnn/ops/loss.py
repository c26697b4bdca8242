"""The cross-entropies of logits, of many classes and of two.

That of many is fused: over a large vocabulary its passes over memory are most of a training step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..checks import number
from ..engine.arrays import as_numbers, delivered, frozen
from ..engine.operands import as_value, operand, without_gradient
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Numbers
from ..errors import DTypeError, ShapeError
from .distributions import are_probabilities, distribution_loss, masked_ids, one_hot
from .elementwise import multiply, narrowed, widened
from .index import as_ids
from .logistic import softplus
from .masked import Reduction, check_constant, check_floating, check_label, check_reduction, kept_of, reduced_loss
from .reduce import softmax, sum

_CHUNK = 1 << 16  # elements of a block of rows that stays in cache


def _blocks(logits: Array) -> Iterator[slice]:
    rows = max(1, _CHUNK // max(1, logits.shape[1]))
    for start in range(0, logits.shape[0], rows):
        yield slice(start, start + rows)


def _flat(logits: Array, targets: Array, ignore_label: int) -> tuple[Array, Array, Array]:
    """Return logits (M, V), targets (M,) with 0 in masked places, and the mask (M,)."""
    ids = targets.ravel()
    kept = ids != ignore_label
    return logits.reshape(-1, logits.shape[-1]), np.where(kept, ids, 0), kept


def _read(x: Array, kept: Array) -> Array:
    """Return rows of logits to compute with: in float32 at least, and 0 in masked rows, which may hold anything."""
    rows = x if kept.all() else np.where(kept[:, None], x, 0)
    return rows.astype(np.float32) if rows.dtype == np.float16 else rows


@primitive()
def _cross_entropy(logits: Array, /, targets: Array, ignore_label: int, *, out: Array | None = None) -> Array:
    x, ids, kept = _flat(np.asarray(logits), targets, ignore_label)
    nats = np.zeros(len(x), np.result_type(x, np.float32))
    for block in _blocks(x):
        rows = _read(x[block], kept[block])
        exps = rows - rows.real.max(axis=1, keepdims=True)
        picked = exps[np.arange(len(rows)), ids[block]]
        np.exp(exps, out=exps)
        nats[block] = np.log(exps.sum(axis=1)) - picked
    return delivered(np.asarray(nats.sum(where=kept) / np.count_nonzero(kept), dtype=x.dtype), out)


@_cross_entropy.rule(keep="logits")
def _(g: Value, y: Value, logits: Value, *, targets: Array, ignore_label: int) -> Cotangents:
    return (_cross_entropy_back(logits, g, targets=targets, ignore_label=ignore_label),)


@primitive()
def _cross_entropy_back(
    logits: Array, g: Array, /, targets: Array, ignore_label: int, *, out: Array | None = None
) -> Array:
    """Return g * (softmax(logits) - onehot(targets)) / (number of unmasked positions), 0 where masked."""
    x, ids, kept = _flat(np.asarray(logits), targets, ignore_label)
    weight = np.where(kept, widened(g), 0) / np.count_nonzero(kept)
    if out is not None and out.shape == np.shape(logits):
        result = out.reshape(x.shape)
    else:
        result = np.empty(x.shape, np.result_type(x, weight) if np.iscomplexobj(weight) else x.dtype)
    for block in _blocks(x):
        rows = _read(x[block], kept[block])
        exps = result[block] if result.dtype != np.float16 else np.empty_like(rows)
        np.subtract(rows, rows.real.max(axis=1, keepdims=True), out=exps)
        np.exp(exps, out=exps)
        exps *= (weight[block] / exps.sum(axis=1))[:, None]
        exps[np.arange(len(rows)), ids[block]] -= weight[block]
        if result.dtype == np.float16:
            result[block] = exps
    if out is not None and np.may_share_memory(out, result):
        return out
    return delivered(result.reshape(np.shape(logits)), out)


@_cross_entropy_back.rule(keep="logits g")
def _(v: Value, y: Value, logits: Value, g: Value, *, targets: Array, ignore_label: int) -> Cotangents:
    kept = (targets != ignore_label)[..., None]
    v = np.where(kept, widened(v), 0)

    def to_logits() -> Value:
        p = softmax(np.where(kept, widened(logits), 0))
        at_one = p * (v - sum(p * v, axis=-1, keepdims=True))
        return multiply(at_one, widened(g) / np.count_nonzero(kept))

    def to_g() -> Value:
        return sum(v * _cross_entropy_back(logits, 1.0, targets=targets, ignore_label=ignore_label))

    return to_logits, to_g


@unary()
def cross_entropy(
    logits: Operand,
    targets: Operand,
    ignore_label: int = -1,
    *,
    mask: Operand | None = None,
    class_weights: Operand | None = None,
    smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Value:
    """Return the mean negative log-likelihood of `targets`, in nats per unmasked position.

    loss = -mean over unmasked positions of log softmax(logits)[target]; exp(loss) is the perplexity.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.4.

    In general, with the target distribution q, class weights w and smoothing s, the loss of a position is
    -sum over c of w_c * ((1 - s) * q_c + s / V) * log softmax(logits)_c (Szegedy et al. 2016, Rethinking the Inception
    architecture, section 7). Where targets are ids, the mean weighs each position by the weight of its target.

    Args:
        logits: (..., V) floating point, for instance (N, T, V).
        targets: (...) integer ids in [0, V), or `ignore_label`; or (..., V) probabilities, floating point.
        ignore_label: target id of positions that do not count (padding).
        mask: booleans, True where a position counts, of shape (...) or of its first axes; None: all count.
        class_weights: (V,), 0 or more; None: 1 for each.
        smoothing: the share of the target that is spread over all classes, in [0, 1].
        reduction: "mean", "sum", or "none" for the loss of each position (...), 0 where masked.

    Returns:
        A 0-d Tensor (a 0-d array if logits is an array), of the dtype of logits; with "none", of shape (...).

    Raises:
        ShapeError: if targets, mask or class_weights do not fit logits; or if the mean is wanted and every position is
            masked, or has the weight 0.
        DTypeError: if logits are not floating point, targets (or `ignore_label`) neither integers nor probabilities, or
            the mask not boolean.
        IndexError: if a target is outside [0, V).
        ValueError: if a probability or a weight is negative or not finite.
        UnsupportedError: if probabilities are a Tensor that requires a gradient, for it would get none.
        ConfigError: if smoothing or reduction is out of range.

    The gradient at a masked position is exactly 0, whatever its logits are, infinite or NaN; its loss is not looked at.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.cross_entropy(np.zeros((2, 4)), [3, -1])
    >>> round(float(np.exp(loss)), 6)
    4.0
    >>> tr.cross_entropy(np.zeros((2, 2)), [[0.5, 0.5], [1.0, 0.0]], reduction="none").round(4)
    array([0.6931, 0.6931])
    """
    check_floating("cross_entropy", "logits", logits)
    shape = shape_of(logits)
    targets = operand(targets, "cross_entropy", "targets")
    check_reduction("cross_entropy", reduction)
    if type(smoothing) is not float or smoothing:
        smoothing = number("cross_entropy", "smoothing", smoothing, low=0, high=1)
    ignore_label = check_label("cross_entropy", ignore_label)
    needed = reduction == "mean"
    if are_probabilities(targets, shape):
        kept = kept_of("cross_entropy", mask, shape[:-1], needed)
        return distribution_loss(logits, targets, kept, None, class_weights, smoothing, reduction)
    if mask is not None:
        kept = kept_of("cross_entropy", mask, shape[:-1], False)
        targets = without_gradient("targets", partial(masked_ids, ignore_label=ignore_label), targets, kept)
    checked = partial(_checked, shape=shape, ignore_label=ignore_label, needed=needed)
    ids = without_gradient("targets", checked, targets)
    if class_weights is None and not smoothing and needed:
        return _cross_entropy(logits, targets=ids, ignore_label=ignore_label)
    kept = np.not_equal(ids, ignore_label)
    return distribution_loss(logits, one_hot(ids, kept, logits), kept, ids, class_weights, smoothing, reduction)


def _checked(targets: Numbers, shape: tuple[int, ...], ignore_label: int, needed: bool) -> Array:
    """Return the targets of logits of this shape, as read-only ids; see `cross_entropy` for the errors."""
    ids = np.asarray(targets)
    if ids.dtype.kind not in "iu":
        raise DTypeError(
            f"cross_entropy: expected integer targets of shape {shape[:-1]}, or probabilities of shape {shape}, got "
            f"dtype {ids.dtype} of shape {ids.shape}"
        )
    if len(shape) < 1 or ids.shape != shape[:-1]:
        raise ShapeError(
            f"cross_entropy: expected targets of shape {shape[:-1]} for logits of shape {shape} (..., V), "
            f"got {ids.shape}"
        )
    ids = frozen(as_ids("cross_entropy", ids))
    if not 0 <= ignore_label < shape[-1] and ids.size and ids.min() >= 0 and ids.max() < shape[-1]:
        return ids  # none is masked, all are in range: the usual case
    kept = ids != ignore_label
    if needed and not kept.any():
        raise ShapeError(
            f"cross_entropy: all {ids.size} positions are masked (ignore_label={ignore_label}); the mean is undefined"
        )
    wrong = kept & ((ids < 0) | (ids >= shape[-1]))
    if wrong.any():
        raise IndexError(
            f"cross_entropy: target {int(ids[wrong][0])} is outside [0, V) with V={shape[-1]}; "
            f"masked positions must hold ignore_label={ignore_label}"
        )
    return ids


@unary()
def binary_cross_entropy(
    logits: Operand,
    targets: Operand,
    ignore_label: float = -1,
    *,
    mask: Operand | None = None,
    reduction: Reduction = "mean",
) -> Value:
    """Return the mean negative log-likelihood of yes-or-no `targets`, in nats per unmasked element.

    loss = -mean over unmasked elements of t * log(sigmoid(z)) + (1 - t) * log(sigmoid(-z)), z the logits. Computed as
    t * softplus(-z) + (1 - t) * softplus(z): no logit is too large, and nothing cancels, in the gradient neither.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.2.

    Args:
        logits: any shape, floating point.
        targets: of that shape, probabilities of yes in [0, 1], booleans, or `ignore_label`; constants.
        ignore_label: target of elements that do not count (padding).
        mask: booleans, True where an element counts, of that shape or of its first axes; None: all count.
        reduction: "mean", "sum", or "none" for the loss of each element, 0 where masked.

    Returns:
        A 0-d Tensor (a 0-d array if logits is an array), of the dtype of logits; with "none", of their shape.

    Raises:
        ShapeError: if targets or mask do not fit logits, or the mean is wanted and every element is masked.
        DTypeError: if logits are not floating point, targets no real numbers, or the mask not boolean.
        ConfigError: if there is no such reduction.
        UnsupportedError: if targets is a Tensor that requires a gradient, for it would get none.
        ValueError: if a target is outside [0, 1].

    The gradient at a masked element is exactly 0, whatever its logit is, infinite or NaN.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.binary_cross_entropy(np.array([0.0, -800.0, np.nan]), [0.5, 1.0, -1])
    >>> round(float(loss), 6)
    400.346574
    """
    check_floating("binary_cross_entropy", "logits", logits)
    check_reduction("binary_cross_entropy", reduction)
    ignore_label = number("binary_cross_entropy", "ignore_label", ignore_label, infinite=True)
    check_constant("binary_cross_entropy", "targets", targets)
    z = widened(as_value(logits))
    shape, real, needed = z.shape, np.empty(0, z.dtype).real.dtype, reduction == "mean"
    kept = kept_of("binary_cross_entropy", mask, shape, False)
    likelihoods = partial(_likelihoods, shape=shape, ignore_label=ignore_label, needed=needed, dtype=real)
    both = without_gradient("likelihoods", likelihoods, targets, kept)
    yes, no = both[0], both[1]
    z = np.where(yes + no > 0, z, 0)
    nats = yes * np.where(yes > 0, softplus(-z), 0) + no * np.where(no > 0, softplus(z), 0)
    return narrowed(reduced_loss(nats, None, reduction, real, weights=yes + no), logits)


def _likelihoods(
    targets: Numbers,
    counted: Array | None,
    shape: tuple[int, ...],
    ignore_label: float,
    needed: bool,
    dtype: np.dtype[np.floating],
) -> Array:
    """Return the likelihoods of yes, and of no, each 0 where masked."""
    given = as_numbers(targets, "binary_cross_entropy: targets")
    if given.dtype.kind not in "biuf":
        raise DTypeError(
            f"binary_cross_entropy: expected targets that are booleans or real numbers, got dtype {given.dtype} of "
            f"shape {given.shape}"
        )
    if given.shape != shape:
        raise ShapeError(f"binary_cross_entropy: expected targets of shape {shape}, that of logits, got {given.shape}")
    kept = given != ignore_label if counted is None else (given != ignore_label) & counted
    if needed and not kept.any():
        raise ShapeError(
            f"binary_cross_entropy: all {given.size} elements are masked (ignore_label={ignore_label}); the mean is "
            "undefined"
        )
    wrong = kept & ~((given >= 0) & (given <= 1))
    if wrong.any():
        raise ValueError(
            f"binary_cross_entropy: target {given[wrong][0]} is outside [0, 1]; masked elements must hold "
            f"ignore_label={ignore_label}"
        )
    yes = np.where(kept, given, 0).astype(np.float64)
    return np.stack([yes, np.where(kept, 1 - yes, 0)]).astype(dtype)
