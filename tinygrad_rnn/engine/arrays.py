"""Arrays that nobody can write to, for what a graph holds must not change under it; and arrays to be written to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..errors import DTypeError
from .tape import Array


def frozen_copy(value: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Return a read-only copy of `value`, C-ordered, of a numeric dtype.

    Raises:
        DTypeError: if the values are not numbers.
    """
    try:
        array = np.array(value, dtype=dtype, order="C")
    except (TypeError, ValueError) as error:
        raise DTypeError(f"tensor: cannot make an array of numbers from {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"tensor: expected numbers, got dtype {array.dtype} of shape {array.shape}")
    array.flags.writeable = False
    return array


def frozen(array: Array) -> Array:
    """Return `array` itself if nobody can write to its memory, else a read-only copy."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return frozen_copy(array)
        owner = owner.base
    return array if owner is None else frozen_copy(array)


def delivered(result: Array, out: Array | None) -> Array:
    """Return `result`, or `out` with `result` copied into it: `out=` of operations for which NumPy has none.

    Raises:
        ValueError: if the result does not fit the shape of `out`.
        TypeError: if its dtype cannot be cast to that of `out`.
    """
    if out is None:
        return result
    if np.shape(result) != out.shape:
        raise ValueError(f"expected out of shape {np.shape(result)}, got {out.shape}")
    np.copyto(out, result)
    return out
