"""Kernels: what passes put in the place of several calls, because it needs fewer passes over memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.tape import Array
from .graph import Operator

_BLOCK = 1 << 16  # elements of a block of rows that stays in cache


def _loss_and_gradient(
    logits: Array, g: Any, /, targets: Array, ignore_label: int, *, out: Any = None
) -> tuple[Array, Array]:
    """Return the cross-entropy of logits (M, V) and g times its gradient, which may be written over the logits.

    Each block of rows goes through all passes while it is in cache: largest logit, exp, sum, scale.
    """
    if out is None:
        out = np.empty((), logits.dtype), np.empty_like(logits)
    loss, gradient = out
    ids = targets.reshape(-1)
    kept = ids != ignore_label
    count = int(np.count_nonzero(kept))
    weight = (np.asarray(g) / count).astype(logits.dtype)
    total = 0.0
    rows = max(1, _BLOCK // logits.shape[1])
    ones = np.ones(logits.shape[1], logits.dtype)
    whole = count == len(ids)
    for start in range(0, len(logits), rows):
        x, d, at = logits[start : start + rows], gradient[start : start + rows], ids[start : start + rows]
        lines = np.arange(len(x))
        if not whole:
            at = np.where(kept[start : start + rows], at, 0)
        np.subtract(x, x.max(axis=1, keepdims=True), out=d)
        picked = d[lines, at]
        np.exp(d, out=d)
        sums = d @ ones
        nats = np.log(sums) - picked
        scale = weight / sums
        if whole:
            total += float(nats.sum())
            d *= scale[:, None]
            d[lines, at] -= weight
        else:
            on = kept[start : start + rows]
            total += float(nats.sum(where=on))
            d *= np.where(on, scale, 0)[:, None]
            d[lines, at] -= np.where(on, weight, 0)
    loss[()] = total / count
    return loss, gradient


LOSS_AND_GRADIENT = Operator("loss_and_gradient", _loss_and_gradient, True, over=1)
