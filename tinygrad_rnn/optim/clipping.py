"""Clipping: gradients in, smaller gradients out. Nothing is changed in place.

The functions take arrays and Tensors alike, so they can be used in a function that `compile` records, and the norm of a
recorded gradient has a gradient itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar, overload

import numpy as np

from ..checks import instance, number
from ..engine.primitive import Cotangents, primitive
from ..engine.tape import Array
from ..engine.tensor import Tensor, Value
from ..errors import DTypeError, NonFiniteError
from ..ops import astype, clip, maximum, where

_BLOCK = 1 << 14  # number of elements whose squares float32 adds up with an error of 1e-6
_SAFE = 1e-20, 1e37  # range of sums of squares in which float32 loses nothing


V = TypeVar("V", Array, Tensor)


@overload
def global_norm(grads: Mapping[str, Array]) -> float: ...
@overload
def global_norm(grads: Mapping[str, Tensor]) -> Tensor: ...
def global_norm(grads: Mapping[str, V]) -> float | Tensor:
    """Return the norm of all gradients together, as one vector.

    norm = sqrt(sum over parameters and elements of g^2), a float64 whatever the dtypes. If squares would leave the
    range of a dtype, the largest |g| is factored out first.

    Args:
        grads: name to array or Tensor, any shapes, a real floating point dtype.

    Returns:
        The norm, a float (0 without gradients); if a gradient is a Tensor, a Tensor of shape () and dtype float64.

    Raises:
        DTypeError: if a gradient is not real floating point.
        NonFiniteError: if a gradient holds a NaN or an infinity (the message names the first), or the norm is too
            large for a float64. In a compiled function each replay checks that.

    >>> import numpy as np
    >>> global_norm({"W": np.array([[3.0]]), "b": np.array([4.0])})
    5.0
    """
    return _own_kind(norms("global_norm", grads)[-1])


@overload
def clip_by_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], float]: ...
@overload
def clip_by_norm(grads: Mapping[str, Tensor], max_norm: float) -> tuple[dict[str, Tensor], Tensor]: ...
def clip_by_norm(grads: Mapping[str, V], max_norm: float) -> tuple[dict[str, V], float | Tensor]:
    """Return gradients with a global norm of at most `max_norm`, and the norm before clipping.

    g <- g * min(1, max_norm / norm). Source: Pascanu et al. 2013, On the difficulty of training recurrent networks.
    The factor is computed in float64 and rounded once to the dtype of each gradient.

    Args:
        grads: name to array or Tensor, any shapes, a real floating point dtype.
        max_norm: above 0; `math.inf` measures and never clips.

    Returns:
        A new dict with the same dtypes (the arrays of `grads` themselves where nothing was clipped), and the norm
        before clipping, as `global_norm` returns it.

    Raises:
        ConfigError: if `max_norm` is not above 0.
        DTypeError, NonFiniteError: as `global_norm`.

    >>> import numpy as np
    >>> clip_by_norm({"W": np.array([[3.0]]), "b": np.array([4.0])}, max_norm=1.0)
    ({'W': array([[0.6]]), 'b': array([0.8])}, 5.0)
    """
    max_norm = number("clip_by_norm", "max_norm", max_norm, low=0, above=True, infinite=True)
    norm = norms("clip_by_norm", grads)[-1]
    factor = factor_of(norm, max_norm)
    clipped = dict(grads) if factor is None else {name: times(g, factor) for name, g in grads.items()}
    return clipped, _own_kind(norm)


def clip_by_value(grads: Mapping[str, V], limit: float) -> dict[str, V]:
    """Return gradients with every element clipped to [-limit, limit]; a NaN stays a NaN.

    Args:
        grads: name to array or Tensor, any shapes, a real floating point dtype.
        limit: above 0.

    Returns:
        A new dict of new arrays or Tensors with the same dtypes.

    Raises:
        ConfigError: if `limit` is not above 0.
        DTypeError: if a gradient is not real floating point.

    >>> import numpy as np
    >>> clip_by_value({"b": np.array([-3.0, 0.5])}, limit=1.0)
    {'b': array([-1. ,  0.5])}
    """
    limit = number("clip_by_value", "limit", limit, low=0, above=True, infinite=True)
    return {name: _array(clip(g, -limit, limit)) for name, g in _checked("clip_by_value", grads).items()}


@overload
def norms(function: str, grads: Mapping[str, Array], raises: bool = True) -> Array: ...
@overload
def norms(function: str, grads: Mapping[str, Tensor], raises: bool = True) -> Tensor: ...
def norms(function: str, grads: Mapping[str, V], raises: bool = True) -> Value:
    """Return the norm of each gradient and, last, that of all together: (P + 1,) in float64.

    Args:
        function: what the user called, for messages.
        grads: name to array or Tensor; P of them.
        raises: whether a non-finite norm is an error (the message names the first).

    >>> import numpy as np
    >>> norms("f", {"W": np.array([[3.0]]), "b": np.array([4.0])})
    array([3., 4., 5.])
    """
    gradients = _checked(function, grads)
    if not gradients:
        return np.zeros(1)
    return _norms(*gradients.values(), function=function, names=tuple(gradients) if raises else ())


def factor_of(norm: Value | float, max_norm: float) -> Value | None:
    """Return min(1, max_norm / norm); None if that is known to be 1.

    >>> factor_of(5.0, 1.0), factor_of(0.5, 1.0)
    (np.float64(0.2), None)
    """
    if max_norm == math.inf or not (isinstance(norm, Tensor) or norm > max_norm):
        return None
    found: Value = max_norm / maximum(norm, max_norm)
    return found


def times(g: V, factor: Value | float) -> V:
    """Return a gradient times a number, in its own dtype."""
    return _array(g * astype(factor, g.dtype))


@primitive(analytic=False)
def _norms(*gs: Array, function: str, names: tuple[str, ...]) -> Array:
    with np.errstate(all="ignore"):  # sums that leave the range of a dtype are computed again
        found = [_length(g) for g in gs]
        found.append(_length(np.array(found)))
    for name, g, length in zip(names, gs, found, strict=False):
        if not math.isfinite(length):
            bad = int(np.count_nonzero(~np.isfinite(g)))
            raise NonFiniteError(
                f"{function}: the gradient of {name} has {bad} non-finite of {np.size(g)} values "
                f"(shape {np.shape(g)}); anomaly_mode() finds the operation"
            )
    if names and not math.isfinite(found[-1]):
        raise NonFiniteError(f"{function}: the norm of the gradients is above the largest float64")
    return np.array(found)


@_norms.rule(keep="y gs")
def _(g: Value, y: Value, *gs: Value, function: str, names: tuple[str, ...]) -> Cotangents:
    shares = where(y > 0, g / where(y > 0, y, 1.0), 0.0)  # the norm has a kink at zero: its gradient is 0 there
    return tuple(x * astype(shares[n] + shares[-1], x.dtype) for n, x in enumerate(gs))


def _length(g: Array) -> float:
    flat = np.reshape(g, -1)
    if flat.dtype.itemsize < 4:
        flat = flat.astype(np.float32)
    square = _square_sum(flat)
    if not _SAFE[0] < square < _SAFE[1]:
        flat = flat.astype(np.float64)
        peak = float(np.max(np.abs(flat), initial=0))
        return peak * math.sqrt(_square_sum(flat / peak)) if 0 < peak < math.inf else peak
    return math.sqrt(square)


def _square_sum(flat: Array) -> float:
    """Return the sum of squares: blocks are summed in their own dtype, the blocks' sums in float64."""
    whole = len(flat) // _BLOCK * _BLOCK
    total = float(flat[whole:] @ flat[whole:])
    if whole:
        blocks = flat[:whole].reshape(-1, _BLOCK)
        total += float(np.sum(np.vecdot(blocks, blocks), dtype=np.float64))
    return total


def _checked(function: str, grads: Mapping[str, V]) -> dict[str, V]:
    instance(function, "grads", grads, Mapping, "as grad(loss, model.parameters()) gives them")
    found = {name: g if isinstance(g, Tensor) else np.asarray(g) for name, g in grads.items()}
    for name, g in found.items():
        if g.dtype.kind != "f":
            raise DTypeError(f"{function}: the gradient of {name} has dtype {g.dtype}; expected real floating point")
    return found


def _own_kind(norm: Value) -> float | Tensor:
    return norm if isinstance(norm, Tensor) else float(norm)


def _array(g: V) -> V:
    return g if isinstance(g, Tensor) else np.asarray(g)
