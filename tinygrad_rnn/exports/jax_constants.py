"""What JAX computes for the functions without a gradient: comparisons, targets and masks, orders, draws.

In NumPy some of them check values first (ids in range, lengths of at least 1). A JAX function is made before there are
values, so the checks are left out: what is looked up with an id that is out of range is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from ..compiler.ir.arrays import DType
from ..compiler.ir.graph import Operator
from ..errors import UnsupportedError
from .checks import full_name
from .jax_operators import JaxArray, Row

_PACKAGE = __name__.partition(".")[0]


def constant_row(operator: Operator) -> Row | None:
    """Return the row of a function without a gradient; None if there is none."""
    compute = operator.compute
    function: Callable[..., object] = compute.func if isinstance(compute, partial) else compute
    named: dict[str, object] = compute.keywords if isinstance(compute, partial) else {}
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, np.ufunc) or module.partition(".")[0] == "numpy":
        return partial(_of_numpy, getattr(function, "__qualname__", "") or operator.name, named)
    row = CONSTANTS.get(full_name(function).removeprefix(f"{_PACKAGE}."))
    return None if row is None else partial(row, **named)


def _of_numpy(name: str, named: dict[str, object], jax: ModuleType, *parts: object) -> object:
    if not hasattr(jax.numpy, name):
        raise UnsupportedError(f"to_jax: JAX has no np.{name}")
    given = {
        key: part for key, part in named.items() if key not in ("kind", "order") and (part is not None or key == "axis")
    }
    return getattr(jax.numpy, name)(*parts, **given)  # which sorts stably, and in which None is not always a default


def _as(jax: ModuleType, x: JaxArray, dtype: DTypeLike) -> JaxArray:
    """Return an array in a dtype, or in the one that JAX has for it."""
    return jax.numpy.asarray(x, jax.dtypes.canonicalize_dtype(dtype))


def _numbers(jax: ModuleType, given: JaxArray, dtype: DType, **_: object) -> JaxArray:
    return _as(jax, given, dtype)


def _ids(jax: ModuleType, given: JaxArray, **_: object) -> JaxArray:
    return _as(jax, given, np.intp)


def _same(jax: ModuleType, given: JaxArray) -> JaxArray:
    return given


# -- losses and metrics -----------------------------------------------------------------------------------------------


def _masked_ids(jax: ModuleType, ids: JaxArray, kept: JaxArray, ignore_label: int) -> JaxArray:
    return jax.numpy.where(kept, ids, ignore_label)


def _mask(jax: ModuleType, mask: JaxArray, shape: tuple[int, ...], **_: object) -> JaxArray:
    mask = jax.numpy.asarray(mask)
    return jax.numpy.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def _count(jax: ModuleType, kept: JaxArray, dtype: DType) -> JaxArray:
    return _as(jax, jax.numpy.count_nonzero(kept), dtype)


def _one_hot(jax: ModuleType, ids: JaxArray, kept: JaxArray, V: int, dtype: DType) -> JaxArray:
    return _as(jax, (ids[..., None] == np.arange(V)) & kept[..., None], dtype)


def _smoothed(
    jax: ModuleType, given: JaxArray, kept: JaxArray, weights: JaxArray, smoothing: float, dtype: DType
) -> JaxArray:
    there = True if kept is None else kept[..., None]
    q = (1 - smoothing) * jax.numpy.where(there, given, 0) + smoothing / given.shape[-1]
    return _as(jax, jax.numpy.where(there, q if weights is None else q * weights, 0), dtype)


def _shares(jax: ModuleType, ids: JaxArray, kept: JaxArray, weights: JaxArray, needed: bool) -> JaxArray:
    jnp = jax.numpy
    return jnp.where(kept, jnp.take(jnp.asarray(weights), jnp.where(kept, ids, 0), mode="fill"), 0)


def _likelihoods(
    jax: ModuleType, targets: JaxArray, kept: JaxArray, ignore_label: float, dtype: DType, **_: object
) -> JaxArray:
    jnp = jax.numpy
    there = jnp.not_equal(targets, ignore_label)
    there = there if kept is None else there & kept
    yes = _as(jax, jnp.where(there, targets, 0), dtype)
    return jnp.stack([yes, jnp.where(there, 1 - yes, 0)])


def _hits(jax: ModuleType, given: JaxArray, targets: JaxArray, kept: JaxArray, ignore_label: int) -> JaxArray:
    jnp = jax.numpy
    found = jnp.argmax(given, axis=-1) if np.ndim(given) == np.ndim(targets) + 1 else given
    counted = jnp.not_equal(targets, ignore_label)
    counted = counted if kept is None else counted & kept
    found = [jnp.count_nonzero((found == targets) & counted), jnp.count_nonzero(counted)]
    return _as(jax, jnp.stack(found), np.float64)


def _counted(jax: ModuleType, targets: JaxArray, kept: JaxArray, ignore_label: int) -> JaxArray:
    there = jax.numpy.not_equal(targets, ignore_label)
    return _as(jax, jax.numpy.count_nonzero(there if kept is None else there & kept), np.float64)


_TERMS: dict[str, Callable[[ModuleType, JaxArray, JaxArray], list[JaxArray]]] = {
    "_absolute": lambda jnp, y, t: [jnp.abs(y - t), jnp.ones_like(t)],
    "_squared": lambda jnp, y, t: [jnp.square(y - t), jnp.ones_like(t)],
    "_moments": lambda jnp, y, t: [jnp.square(y - t), t, jnp.square(t), jnp.ones_like(t)],
}
"""Of the metrics of numbers, by the name of their NumPy function."""


def _sums(
    jax: ModuleType,
    predictions: JaxArray,
    targets: JaxArray,
    kept: JaxArray,
    function: str,
    terms: Callable[..., object],
) -> JaxArray:
    jnp, (y, t) = jax.numpy, (_as(jax, part, np.float64) for part in (predictions, targets))
    found = _TERMS[terms.__name__](jnp, y, t)
    return jnp.stack([jnp.sum(part if kept is None else jnp.where(kept, part, 0)) for part in found])


# -- sequences --------------------------------------------------------------------------------------------------------


def _order(jax: ModuleType, lengths: JaxArray, T: int) -> JaxArray:
    t, last = np.arange(T)[None, :, None], lengths[:, None, None]
    return jax.numpy.where(t < last, last - 1 - t, t)


def _inputs(jax: ModuleType, ids: JaxArray, ignore_label: int) -> JaxArray:
    return jax.numpy.where(ids == ignore_label, 0, ids)


def _counts(jax: ModuleType, given: JaxArray, N: int, most: int) -> JaxArray:
    return np.full(N, most) if given is None else given


def _labels(
    jax: ModuleType, targets: JaxArray, lengths: JaxArray, target_lengths: JaxArray, shape: tuple[int, ...], blank: int
) -> JaxArray:
    jnp, (N, L) = jax.numpy, np.shape(targets)
    there = np.arange(L) < _counts(jax, target_lengths, N, L)[:, None]
    ids = jnp.where(there, targets, blank)
    return jnp.full((N, 2 * L + 1), blank, ids.dtype).at[:, 1::2].set(ids)


def _running(jax: ModuleType, lengths: JaxArray, N: int, T: int) -> JaxArray:
    return np.arange(T) < _counts(jax, lengths, N, T)[:, None]


def _skips(jax: ModuleType, labels: JaxArray, blank: int) -> JaxArray:
    found = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return jax.numpy.zeros(labels.shape, bool).at[:, 2:].set(found)


def _ends(jax: ModuleType, labels: JaxArray, target_lengths: JaxArray) -> JaxArray:
    N, S = labels.shape
    last, places = 2 * _counts(jax, target_lengths, N, S // 2)[:, None], np.arange(S)
    return (places == last) | (places == last - 1)


def _at_each_step(jax: ModuleType, labels: JaxArray, T: int) -> JaxArray:
    return jax.numpy.broadcast_to(labels[:, None], (len(labels), T, labels.shape[1]))


# -- draws: a key in the place of the generator -----------------------------------------------------------------------


def _below(jax: ModuleType, key: JaxArray, shape: tuple[int, ...], p: float) -> JaxArray:
    return jax.random.uniform(key, shape, np.float32) < p


def _kept(jax: ModuleType, key: JaxArray, shape: tuple[int, ...], p: float) -> JaxArray:
    return jax.random.uniform(key, shape, np.float32) >= p


def _signs(jax: ModuleType, key: JaxArray, shape: tuple[int, ...], dtype: DType) -> JaxArray:
    return jax.random.rademacher(key, shape, jax.dtypes.canonicalize_dtype(dtype))


def _normal(jax: ModuleType, key: JaxArray, shape: tuple[int, ...], dtype: DType) -> JaxArray:
    return jax.random.normal(key, shape, jax.dtypes.canonicalize_dtype(dtype))


CONSTANTS: dict[str, Row] = {
    "nn.layers.Embedding._checked": _same,
    "ops.index._checked_ids": _ids,
    "ops.index._plain_part": _ids,
    "ops.loss._checked": _ids,
    "nn.unroll._in_range": _ids,
    "ops.masked._numbers_like": _numbers,
    "ops.distributions._class_weights": _numbers,
    "ops.distributions.masked_ids": _masked_ids,
    "ops.distributions._one_hot": _one_hot,
    "ops.distributions._smoothed": _smoothed,
    "ops.distributions._shares": _shares,
    "ops.masked._mask": _mask,
    "ops.masked._count": _count,
    "ops.loss._likelihoods": _likelihoods,
    "metrics.predictions._hits": _hits,
    "metrics.predictions._counted": _counted,
    "metrics.predictions._sums": _sums,
    "nn.unroll.backward_order": _order,
    "nn.seq2seq._inputs": _inputs,
    "nn.ctc._labels": _labels,
    "nn.ctc._running": _running,
    "nn.ctc._skips": _skips,
    "nn.ctc._ends": _ends,
    "nn.ctc._at_each_step": _at_each_step,
    "nn.noise._drawn": _below,
    "nn.layers._kept": _kept,
    "credit.sampled._signs": _signs,
    "credit.sampled._normal": _normal,
}
"""By the module and the name of the NumPy function."""
