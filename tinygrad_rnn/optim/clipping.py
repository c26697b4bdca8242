"""Clipping: gradients in, smaller gradients out. Nothing is changed in place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..engine.tape import Array
from ..errors import ConfigError, NonFiniteError


def global_norm(grads: Mapping[str, Array]) -> float:
    """Return the length of all gradients together, as one vector.

    norm = sqrt(sum over parameters and elements of g^2), in float64, with the largest |g| taken out first, so that
    no square overflows.

    Args:
        grads: name to array, any shapes, a floating point dtype.

    Returns:
        The norm; 0 without gradients.

    Raises:
        NonFiniteError: if a gradient holds a NaN or an infinity (the message names the first), or the norm is too
            large for a float64.

    >>> import numpy as np
    >>> global_norm({"W": np.array([[3.0]]), "b": np.array([4.0])})
    5.0
    """
    peak = max((float(np.max(np.abs(g), initial=0)) for g in grads.values()), default=0.0)
    if not math.isfinite(peak) or any(np.isnan(g).any() for g in grads.values()):
        name = next(name for name, g in grads.items() if not np.isfinite(g).all())
        bad = int(np.count_nonzero(~np.isfinite(grads[name])))
        raise NonFiniteError(
            f"global_norm: the gradient of {name} has {bad} non-finite of {np.size(grads[name])} values "
            f"(shape {np.shape(grads[name])}); anomaly_mode() finds the operation"
        )
    if peak == 0:
        return 0.0
    squares = math.fsum(float(np.sum(np.square(np.divide(g, peak, dtype=np.float64)))) for g in grads.values())
    norm = peak * math.sqrt(squares)
    if not math.isfinite(norm):
        raise NonFiniteError("global_norm: the norm of the gradients is above the largest float64")
    return norm


def clip_by_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], float]:
    """Return gradients of global norm `max_norm` at most, and the norm they had.

    g <- g * min(1, max_norm / norm). Source: Pascanu et al. 2013, On the difficulty of training recurrent networks.

    Args:
        grads: name to array, any shapes, a floating point dtype.
        max_norm: above 0; `math.inf` measures and never clips.

    Returns:
        A new dict of arrays with the same dtypes (the arrays of `grads` themselves where nothing was clipped), and
        the norm before clipping.

    Raises:
        ConfigError: if `max_norm` is not above 0.
        NonFiniteError: as `global_norm`.

    >>> import numpy as np
    >>> clip_by_norm({"W": np.array([[3.0]]), "b": np.array([4.0])}, max_norm=1.0)
    ({'W': array([[0.6]]), 'b': array([0.8])}, 5.0)
    """
    if not max_norm > 0:
        raise ConfigError(f"clip_by_norm: max_norm must be above 0, got {max_norm}")
    norm = global_norm(grads)
    if norm <= max_norm:
        return dict(grads), norm
    return {name: np.asarray(g * (max_norm / norm)) for name, g in grads.items()}, norm


def clip_by_value(grads: Mapping[str, Array], limit: float) -> dict[str, Array]:
    """Return gradients with every element moved into [-limit, limit]; a NaN stays a NaN.

    Args:
        grads: name to array, any shapes, a floating point dtype.
        limit: above 0.

    Returns:
        A new dict of new arrays with the same dtypes.

    Raises:
        ConfigError: if `limit` is not above 0.

    >>> import numpy as np
    >>> clip_by_value({"b": np.array([-3.0, 0.5])}, limit=1.0)
    {'b': array([-1. ,  0.5])}
    """
    if not limit > 0:
        raise ConfigError(f"clip_by_value: limit must be above 0, got {limit}")
    return {name: np.asarray(np.clip(g, -limit, limit)) for name, g in grads.items()}
