"""The linear recurrence over the first axis, computed in spans side by side: its steps are associative."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Tensor, shape_of
from .arrange import flip, part_of
from .shape import broadcast_to, concatenate

_WIDE = 4096  # elements of a step; with fewer, NumPy's calls cost more than what they compute


@primitive()
def linear_recurrence(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return h (T, ...) with h[t] = a[t] * h[t-1] + b[t] and h[-1] = 0; a and b broadcast to each other.

    Two steps in a row are a step again: (a', b') after (a, b) is (a' * a, a' * b + b'). So spans of about sqrt(T)
    steps are computed side by side, then joined: 3 * sqrt(T) calls of NumPy in place of T.
    """
    shape, dtype = np.broadcast_shapes(np.shape(a), np.shape(b)), np.result_type(a, b)
    T, size = shape[0], math.prod(shape[1:])
    a, h = np.broadcast_to(a, shape), np.array(np.broadcast_to(b, shape), dtype)
    length = 1 if size >= _WIDE or T < 8 else math.isqrt(T)  # of a span
    whole = T // length * length if length > 1 else 1
    if length > 1:
        spans = h[:whole].reshape(whole // length, length, *h.shape[1:])
        factors = np.array(a[:whole], dtype).reshape(spans.shape)
        for t in range(1, length):  # in all spans: h as if each started from 0, and the factor that its start has
            spans[:, t] += factors[:, t] * spans[:, t - 1]
            factors[:, t] *= factors[:, t - 1]
        for span in range(1, len(spans)):
            spans[span] += factors[span] * spans[span - 1, -1]
    for t in range(whole, T):
        h[t] += a[t] * h[t - 1]
    return delivered(h, out)


@linear_recurrence.rule(keep="y a")
def _(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Callable[[], Tensor], Tensor]:
    """Go back by the same recurrence: s[t] = g[t] + a[t+1] * s[t+1] is b's cotangent, and s[t] * h[t-1] is a's."""
    shape = shape_of(y)
    zeros = np.zeros((1, *shape[1:]), y.dtype)
    following = concatenate([part_of(broadcast_to(a, shape), 0, slice(1, None)), zeros], axis=0)
    s = flip(linear_recurrence(flip(following, 0), flip(g, 0)), 0)
    return (lambda: s * concatenate([zeros, part_of(y, 0, slice(None, -1))], axis=0)), s
