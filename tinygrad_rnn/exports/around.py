"""Zeros with an array put in at an index, as `np.pad`, `np.diag` and the gradient of an index make them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compiler.ir.graph import Value
from ..engine.tape import Array
from ..errors import UnsupportedError


def bounds(part: object, length: int) -> tuple[int, int] | None:
    """Return how many zeros come before and after a part of an axis; None if they lie between.

    >>> bounds(slice(1, 3), 5), bounds(-1, 5), bounds(slice(None, None, 2), 5)
    ((1, 2), (4, 0), None)
    """
    if isinstance(part, int):
        return part % length, length - 1 - part % length
    if not isinstance(part, slice):
        return None
    start, stop, step = part.indices(length)
    return (start, length - stop) if step == 1 and start <= stop else None


def places(index: object, shape: Sequence[int], target: str) -> Array:
    """Return the place of each picked element (n,) in an array of a shape, in one axis.

    Args:
        index: slices, integers, None, Ellipsis, and arrays.
        shape: that it picks from.
        target: what is written, for the error.

    Raises:
        UnsupportedError: if an array of the index is computed, or given, when the program runs.

    >>> places((slice(None), 1), (2, 3), "C").tolist()
    [1, 4]
    """
    parts = [_fixed(part, target) for part in (index if isinstance(index, tuple) else (index,))]
    numbers = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    return np.ravel(numbers[tuple(parts)])  # type: ignore[arg-type]  # of whatever kinds an index may have


def _fixed(part: object, target: str) -> object:
    if isinstance(part, Value):
        part = part.constant
        if part is None:
            raise UnsupportedError(
                f"export: {target} has the gradient of an index only where the index is fixed; write np.where, or "
                "a product with a one-hot matrix"
            )
    return part
