"""What JAX computes for each primitive: the table of `to_jax`, one row for each operator.

A row takes the package `jax`, the operands as JAX arrays, and the attributes of the operator by name. Operands have the
dtype that NumPy would compute in (see `PROMOTED`), and the result is cast to that of the recorded value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

JaxArray = Any
"""An array of JAX; its type is known only where JAX is installed."""

Row = Callable[..., JaxArray]

Axis = int | tuple[int, ...] | None


def _numpy(name: str) -> Row:
    """Return the row of an operator that jax.numpy has under this name, with the same attributes."""
    return lambda jax, *parts, **attrs: getattr(jax.numpy, name)(*parts, **attrs)


def _axes(axis: Axis, ndim: int) -> Axis:
    return tuple(range(ndim)) if axis is None else axis


# -- elementwise ------------------------------------------------------------------------------------------------------


def _same(jax: ModuleType, x: JaxArray, **_: JaxArray) -> JaxArray:
    return jax.numpy.asarray(x)


def _relu(jax: ModuleType, x: JaxArray) -> JaxArray:
    return jax.nn.relu(x)  # its derivative at 0 is 0, that of jnp.maximum 1/2


def _sigmoid(jax: ModuleType, x: JaxArray) -> JaxArray:
    return jax.nn.sigmoid(x)


def _sigmoid_slope(jax: ModuleType, y: JaxArray, x: JaxArray) -> JaxArray:
    return jax.numpy.multiply(y, jax.nn.sigmoid(jax.numpy.negative(x)))


def _softplus(jax: ModuleType, x: JaxArray) -> JaxArray:
    return jax.numpy.logaddexp(x, 0)


def _cut(jax: ModuleType, h: JaxArray, *, scale: float) -> JaxArray:
    """Return h, through which `scale` of a derivative passes, in forward mode and in reverse mode."""
    if not scale:
        return jax.lax.stop_gradient(h)

    def through(primals: tuple[JaxArray], tangents: tuple[JaxArray]) -> tuple[JaxArray, JaxArray]:
        return primals[0], jax.numpy.multiply(tangents[0], scale)

    cut = jax.custom_jvp(lambda h: h)
    cut.defjvp(through)
    return cut(h)


def _round(jax: ModuleType, x: JaxArray, *, decimals: int = 0) -> JaxArray:
    if decimals >= 0 or x.dtype.kind not in "iu":
        return jax.numpy.round(x, decimals)
    wide = jax.numpy.asarray(x, jax.dtypes.canonicalize_dtype(np.float64))  # JAX has no tens of whole numbers
    return jax.numpy.round(wide / 10**-decimals) * 10**-decimals


# -- reductions and losses --------------------------------------------------------------------------------------------


def _logsumexp(jax: ModuleType, x: JaxArray, *, axis: Axis = None, keepdims: bool = False) -> JaxArray:
    if not np.size(x):
        return jax.numpy.full_like(jax.numpy.sum(x, axis=axis, keepdims=keepdims), -np.inf)
    return jax.nn.logsumexp(x, axis=axis, keepdims=keepdims)


def _log_softmax(jax: ModuleType, x: JaxArray, *, axis: Axis = -1) -> JaxArray:
    return jax.nn.log_softmax(x, axis=_axes(axis, np.ndim(x))) if np.size(x) else x


class _Rows(NamedTuple):
    """Logits of a cross-entropy: which count, their ids, and exp(logits - shift) with its sums over the classes."""

    kept: JaxArray
    ids: JaxArray
    logits: JaxArray
    shift: JaxArray
    exps: JaxArray
    total: JaxArray


def _rows(jax: ModuleType, logits: JaxArray, targets: JaxArray, ignore_label: int) -> _Rows:
    """Return what the loss and its gradient both need, in the same form, so that XLA computes it once."""
    jnp = jax.numpy
    kept = jnp.not_equal(targets, ignore_label)
    rows = jnp.where(kept[..., None], logits, 0)  # masked rows may hold anything
    shift = jax.lax.stop_gradient(jnp.max(rows, axis=-1, keepdims=True))
    exps = jnp.exp(rows - shift)
    return _Rows(kept, jnp.where(kept, targets, 0), rows, shift, exps, jnp.sum(exps, axis=-1, keepdims=True))


def _cross_entropy(jax: ModuleType, logits: JaxArray, *, targets: JaxArray, ignore_label: int) -> JaxArray:
    jnp, of = jax.numpy, _rows(jax, logits, targets, ignore_label)
    picked = jnp.take_along_axis(of.logits, of.ids[..., None], axis=-1, mode="fill")
    nats = jnp.log(of.total) + of.shift - picked
    return jnp.sum(nats[..., 0], where=of.kept) / jnp.count_nonzero(of.kept)


def _cross_entropy_back(
    jax: ModuleType, logits: JaxArray, g: JaxArray, *, targets: JaxArray, ignore_label: int
) -> JaxArray:
    jnp, of = jax.numpy, _rows(jax, logits, targets, ignore_label)
    weight = (jnp.where(of.kept, g, 0) / jnp.count_nonzero(of.kept))[..., None]
    hit = np.arange(np.shape(logits)[-1]) == of.ids[..., None]
    return of.exps * (weight / of.total) - jnp.where(hit, weight, 0)


def _norms(jax: ModuleType, *gs: JaxArray, function: str, names: tuple[str, ...]) -> JaxArray:
    """Return the norm of each gradient and that of all; each is scaled first, so that no square overflows."""
    jnp = jax.numpy

    def length(g: JaxArray) -> JaxArray:
        peak = jax.lax.stop_gradient(jnp.max(jnp.abs(g), initial=0))
        some = (peak > 0) & jnp.isfinite(peak)
        scale = jnp.where(some, peak, 1)
        square = jnp.sum(jnp.square(g / scale))
        return jnp.where(some, scale * jnp.sqrt(jnp.where(some, square, 1)), peak)

    wide = jax.dtypes.canonicalize_dtype(np.float64)
    found = jnp.stack([length(jnp.asarray(g, wide)) for g in gs])
    return jnp.append(found, length(found))


# -- shapes and positions ---------------------------------------------------------------------------------------------


def _stack(jax: ModuleType, *xs: JaxArray, axis: int = 0) -> JaxArray:
    return jax.numpy.stack(xs, axis=axis)


def _concatenate(jax: ModuleType, *xs: JaxArray, axis: int = 0) -> JaxArray:
    return jax.numpy.concatenate(xs, axis=axis)


def _unstack(jax: ModuleType, x: JaxArray, *, axis: int = 0) -> JaxArray:
    return tuple(jax.numpy.unstack(x, axis=axis))


def _split(jax: ModuleType, x: JaxArray, *, indices_or_sections: int | Sequence[int], axis: int = 0) -> JaxArray:
    if isinstance(indices_or_sections, int):
        return tuple(jax.numpy.split(x, indices_or_sections, axis=axis))
    axis %= np.ndim(x)
    bounds = [0, *indices_or_sections, np.shape(x)[axis]]  # as Python reads a slice: they may go back, or be negative
    before = (slice(None),) * axis
    pairs = itertools.pairwise(bounds)
    return tuple(jax.numpy.asarray(x)[(*before, slice(begin, end))] for begin, end in pairs)


def _getitem(jax: ModuleType, x: JaxArray, *, index: JaxArray) -> JaxArray:
    return jax.numpy.asarray(x).at[index].get(mode="fill")


def _scatter(jax: ModuleType, g: JaxArray, *, index: JaxArray, shape: tuple[int, ...]) -> JaxArray:
    return jax.numpy.zeros(shape, g.dtype).at[index].add(g)


def _take(jax: ModuleType, x: JaxArray, *, indices: JaxArray, axis: int) -> JaxArray:
    return jax.numpy.take(x, indices, axis=axis, mode="fill")


def _take_back(jax: ModuleType, g: JaxArray, *, indices: JaxArray, axis: int, shape: tuple[int, ...]) -> JaxArray:
    places = (*(slice(None),) * (axis % len(shape)), indices)
    return jax.numpy.zeros(shape, g.dtype).at[places].add(g)


def _take_along(jax: ModuleType, x: JaxArray, *, indices: JaxArray, axis: int) -> JaxArray:
    return jax.numpy.take_along_axis(x, indices, axis=axis, mode="fill")


def _take_along_back(jax: ModuleType, g: JaxArray, *, indices: JaxArray, axis: int, shape: tuple[int, ...]) -> JaxArray:
    places: list[JaxArray] = list(np.ix_(*map(np.arange, shape)))
    places[axis] = indices
    return jax.numpy.zeros(shape, g.dtype).at[tuple(places)].add(g)


def _linear_recurrence(jax: ModuleType, a: JaxArray, b: JaxArray) -> JaxArray:
    """Two steps in a row are a step again, so that JAX computes T of them in log2(T) rounds."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    steps = [jax.numpy.broadcast_to(part, shape) for part in (a, b)]
    join = lambda one, two: (two[0] * one[0], two[0] * one[1] + two[1])  # noqa: E731
    return jax.lax.associative_scan(join, tuple(steps))[1]


_SAME_NAME = (
    "add subtract multiply divide maximum minimum negative sqrt exp tanh floor ceil trunc rint sign power log sin cos "
    "tan arcsin arccos arctan sinh cosh arcsinh arccosh arctanh log1p expm1 log2 log10 exp2 cbrt arctan2 hypot fmod "
    "logaddexp remainder floor_divide where matmul sum mean max min prod cumsum cumprod reshape "
    "broadcast_to transpose"
)

OPERATORS: dict[str, Row] = {
    **{name: _numpy(name) for name in _SAME_NAME.split()},
    **dict.fromkeys(("astype", "contiguous", "copy"), _same),
    "round": _round,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "sigmoid_slope": _sigmoid_slope,
    "softplus": _softplus,
    **dict.fromkeys(("cut", "stop_gradient"), _cut),
    "logsumexp": _logsumexp,
    "log_softmax": _log_softmax,
    "cross_entropy": _cross_entropy,
    "cross_entropy_back": _cross_entropy_back,
    "stack": _stack,
    "concatenate": _concatenate,
    "unstack": _unstack,
    "split": _split,
    "getitem": _getitem,
    "scatter": _scatter,
    "take": _take,
    "take_back": _take_back,
    "take_along": _take_along,
    "take_along_back": _take_along_back,
    "linear_recurrence": _linear_recurrence,
    "inv": lambda jax, a: jax.numpy.linalg.inv(a),
    "solve": lambda jax, a, b: jax.numpy.linalg.solve(a, b),
    "tinygrad_rnn.optim.clipping.norms": _norms,
}
"""By the name of the operator."""

PROMOTED = frozenset(OPERATORS) - {
    *(
        "astype",
        "contiguous",
        "copy",
        "cut",
        "stop_gradient",
        "reshape",
        "broadcast_to",
        "transpose",
        "unstack",
        "split",
        "where",
    ),
    *("getitem", "scatter", "take", "take_back", "take_along", "take_along_back", "max", "min"),
    *("cross_entropy", "cross_entropy_back", "tinygrad_rnn.optim.clipping.norms"),
}
"""Operators whose operands are cast to the dtype of the result first: NumPy promotes int32 and float32 to float64."""

COMPARED = frozenset(["isin", "isclose", "allclose", "array_equal", "searchsorted", "digitize"])
"""Functions of NumPy, other than ufuncs, that compare two arrays in the dtype in which they meet."""
