"""The cross-entropy of logits, fused: over a large vocabulary its passes over memory are most of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..engine.arrays import delivered, frozen
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Operand, shape_of, without_gradient
from ..errors import DTypeError, ShapeError
from .index import as_ids
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


@primitive()
def _cross_entropy(logits: Operand, /, targets: Array, ignore_label: int, *, out: Array | None = None) -> Array:
    x, ids, kept = _flat(np.asarray(logits), targets, ignore_label)
    nats = np.zeros(len(x), x.dtype)
    for block in _blocks(x):
        rows = x[block]
        shift = rows.real.max(axis=1, keepdims=True)
        exps = rows - shift
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
    weight = np.where(kept, g, 0) / np.count_nonzero(kept)
    if out is not None and out.shape == np.shape(logits):
        result = out.reshape(x.shape)
    else:
        result = np.empty(x.shape, np.result_type(x, weight) if np.iscomplexobj(weight) else x.dtype)
    for block in _blocks(x):
        rows, exps = x[block], result[block]
        np.subtract(rows, rows.real.max(axis=1, keepdims=True), out=exps)
        np.exp(exps, out=exps)
        exps *= (weight[block] / exps.sum(axis=1))[:, None]
        exps[np.arange(len(rows)), ids[block]] -= weight[block]
    if out is not None and np.may_share_memory(out, result):
        return out
    return delivered(result.reshape(np.shape(logits)), out)


@_cross_entropy_back.rule(keep="logits g")
def _(v: Any, y: Any, logits: Any, g: Any, *, targets: Array, ignore_label: int) -> Any:
    def to_logits() -> Any:
        kept = (targets != ignore_label)[..., None]
        weighted = np.where(kept, v, 0) * (g / np.count_nonzero(kept))
        p = softmax(logits)
        return p * (weighted - np.sum(p * weighted, axis=-1, keepdims=True))

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
        DTypeError: if targets are not integers.
        IndexError: if a target is outside [0, V).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.cross_entropy(np.zeros((2, 4)), [3, -1])
    >>> round(float(np.exp(loss)), 6)
    4.0
    """
    shape = shape_of(logits)
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int | np.integer):
        raise DTypeError(f"cross_entropy: ignore_label must be an integer, got {ignore_label!r}")
    ignore_label = int(ignore_label)
    ids = without_gradient("targets", lambda given: _checked(given, shape, ignore_label), targets)
    return _cross_entropy(logits, targets=ids, ignore_label=ignore_label)


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
