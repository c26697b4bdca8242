"""The cross-entropies of logits, of many classes and of two.

That of many is fused: over a large vocabulary its passes over memory are most of a training step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..engine.arrays import delivered, frozen
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, shape_of, without_gradient
from ..errors import DTypeError, ShapeError, UnsupportedError
from .elementwise import narrowed, widened
from .index import as_ids
from .logistic import softplus
from .reduce import softmax

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
def _cross_entropy(logits: Operand, /, targets: Array, ignore_label: int, *, out: Array | None = None) -> Array:
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
def _(g: Any, y: Any, logits: Any, *, targets: Array, ignore_label: int) -> Any:
    return (_cross_entropy_back(logits, g, targets=targets, ignore_label=ignore_label),)


@primitive()
def _cross_entropy_back(
    logits: Operand, g: Operand, /, targets: Array, ignore_label: int, *, out: Array | None = None
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
def _(v: Any, y: Any, logits: Any, g: Any, *, targets: Array, ignore_label: int) -> Any:
    kept = (targets != ignore_label)[..., None]
    v = np.where(kept, widened(v), 0)

    def to_logits() -> Any:
        p = softmax(np.where(kept, widened(logits), 0))
        return p * (v - np.sum(p * v, axis=-1, keepdims=True)) * (widened(g) / np.count_nonzero(kept))

    def to_g() -> Any:
        return np.sum(v * _cross_entropy_back(logits, 1.0, targets=targets, ignore_label=ignore_label))

    return to_logits, to_g


def cross_entropy(logits: Operand, targets: Any, ignore_label: int = -1) -> Any:
    """Return the mean negative log-likelihood of `targets`, in nats per unmasked position.

    loss = -mean over unmasked positions of log softmax(logits)[target]; exp(loss) is the perplexity.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.4.

    Args:
        logits: (..., V) floating point, for instance (N, T, V).
        targets: (...) integer ids in [0, V), or `ignore_label`.
        ignore_label: target of positions that do not count (padding).

    Returns:
        A 0-d Tensor (a 0-d array if logits is an array), of the dtype of logits.

    Raises:
        ShapeError: if targets has not the shape of logits without V, or every position is masked.
        DTypeError: if logits are not floating point, or targets (or `ignore_label`) not integers.
        IndexError: if a target is outside [0, V).

    The gradient at a masked position is exactly 0, whatever its logits are, infinite or NaN; its loss is not looked at.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.cross_entropy(np.zeros((2, 4)), [3, -1])
    >>> round(float(np.exp(loss)), 6)
    4.0
    """
    shape = shape_of(logits)
    _check_logits("cross_entropy", logits)
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int | np.integer):
        raise DTypeError(f"cross_entropy: ignore_label must be an integer, got {ignore_label!r}")
    ignore_label = int(ignore_label)
    ids = without_gradient("targets", lambda given: _checked(given, shape, ignore_label), targets)
    return _cross_entropy(logits, targets=ids, ignore_label=ignore_label)


def _check_logits(function: str, logits: Operand) -> None:
    dtype = logits.dtype if isinstance(logits, Tensor | np.ndarray) else np.asarray(logits).dtype
    if dtype.kind not in "fc":
        raise DTypeError(
            f"{function}: expected floating point logits, got dtype {dtype} of shape {shape_of(logits)}; convert them, "
            "for instance logits.astype(np.float32)"
        )


def _checked(targets: Any, shape: tuple[int, ...], ignore_label: int) -> Array:
    """Return the targets of logits of this shape, as ids that nobody can change; see `cross_entropy` for the errors."""
    ids = np.asarray(targets)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: expected integer targets, got dtype {ids.dtype} of shape {ids.shape}")
    if len(shape) < 1 or ids.shape != shape[:-1]:
        raise ShapeError(
            f"cross_entropy: expected targets of shape {shape[:-1]} for logits of shape {shape} (..., V), "
            f"got {ids.shape}"
        )
    ids = frozen(as_ids("cross_entropy", ids))
    if not 0 <= ignore_label < shape[-1] and ids.size and ids.min() >= 0 and ids.max() < shape[-1]:
        return ids  # none is masked, all are in range: the usual case
    kept = ids != ignore_label
    if not kept.any():
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


def binary_cross_entropy(logits: Operand, targets: Any, ignore_label: float = -1) -> Any:
    """Return the mean negative log-likelihood of yes-or-no `targets`, in nats per unmasked element.

    loss = -mean over unmasked elements of t * log(sigmoid(z)) + (1 - t) * log(sigmoid(-z)), z the logits. Computed as
    t * softplus(-z) + (1 - t) * softplus(z): no logit is too large, and nothing cancels, in the gradient neither.
    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.2.

    Args:
        logits: any shape, floating point.
        targets: of that shape, probabilities of yes in [0, 1], booleans, or `ignore_label`; constants.
        ignore_label: target of elements that do not count (padding).

    Returns:
        A 0-d Tensor (a 0-d array if logits is an array), of the dtype of logits.

    Raises:
        ShapeError: if targets has not the shape of logits, or every element is masked.
        DTypeError: if logits are not floating point, or targets no real numbers.
        UnsupportedError: if targets is a Tensor that requires a gradient, for it would get none.
        ValueError: if a target is outside [0, 1].

    The gradient at a masked element is exactly 0, whatever its logit is, infinite or NaN.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.binary_cross_entropy(np.array([0.0, -800.0, np.nan]), [0.5, 1.0, -1])
    >>> round(float(loss), 6)
    400.346574
    """
    _check_logits("binary_cross_entropy", logits)
    if isinstance(targets, Tensor) and targets.requires_grad:
        raise UnsupportedError(
            "binary_cross_entropy: targets are constants, and a Tensor that requires a gradient was given; pass "
            "targets.data, or exchange the arguments if that is the logits"
        )
    z = widened(logits if isinstance(logits, Tensor) else np.asarray(logits))
    shape, real = z.shape, np.empty(0, z.dtype).real.dtype

    def likelihoods(given: Any) -> Array:
        """Return those of yes, and of no, each 0 where masked."""
        return _likelihoods(given, shape, ignore_label).astype(real)

    both = without_gradient("likelihoods", likelihoods, targets)
    yes, no = both[0], both[1]
    z = np.where(yes + no > 0, z, 0)
    nats = yes * np.where(yes > 0, softplus(-z), 0) + no * np.where(no > 0, softplus(z), 0)
    return narrowed(np.sum(nats) / np.sum(yes + no), logits)


def _likelihoods(targets: Any, shape: tuple[int, ...], ignore_label: float) -> Array:
    given = np.asarray(targets)
    if given.dtype.kind not in "biuf":
        raise DTypeError(
            f"binary_cross_entropy: expected targets that are booleans or real numbers, got dtype {given.dtype} of "
            f"shape {given.shape}"
        )
    if given.shape != shape:
        raise ShapeError(f"binary_cross_entropy: expected targets of shape {shape}, that of logits, got {given.shape}")
    kept = given != ignore_label
    if not kept.any():
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
    return np.stack([yes, np.where(kept, 1 - yes, 0)])
