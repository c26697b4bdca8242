"""Abstract arrays: one element broadcast to a shape, so that an array of any size costs neither memory nor time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np

from ...engine.tape import Array

Shape = tuple[int, ...]
DType = np.dtype[np.generic]
Compute = Callable[..., object]


@lru_cache(maxsize=4096)
def abstract_array(shape: Shape, dtype: DType) -> Array:
    """Return a read-only array of ones in the memory of one element; only its shape and dtype have a meaning.

    >>> import numpy as np
    >>> abstract_array((1000, 1000), np.dtype(np.float32)).strides
    (0, 0)
    """
    return repeated(_one(dtype), shape)


def repeated(one: Array, shape: Shape) -> Array:
    """Return a 0-d array broadcast to a shape without a copy, as `np.broadcast_to` does, in a tenth of its time."""
    return np.ndarray(shape, one.dtype, one, 0, (0,) * len(shape))


def uniform_elementwise(compute: Compute, parts: Sequence[object], shape: Shape) -> Array | None:
    """Return an elementwise result for abstract arrays, computed on one element and broadcast to `shape`.

    None if an array is not abstract.
    """
    ones = [_element(part) if isinstance(part, np.ndarray) else part for part in parts]
    return None if any(part is None for part in ones) else _repeated(compute(*ones), shape)


def uniform_reduction(key: object, x: object, made: tuple[Shape, DType]) -> Array | None:
    """Return a sum, maximum or minimum of an abstract array in the given shape and dtype.

    None if the array is not abstract, or `key` is another operation.
    """
    if not isinstance(x, np.ndarray) or key not in ("sum", "max", "min") or (one := _element(x)) is None:
        return None
    shape, dtype = made
    count = x.size // math.prod(shape) if key == "sum" else 1
    return _repeated(np.asarray(one, dtype) * np.asarray(count, dtype), shape)


def _element(array: Array) -> np.generic | None:
    """Return the element of an abstract array, whose strides are 0; None for other arrays."""
    if not array.size or any(n != 1 and stride for n, stride in zip(array.shape, array.strides, strict=True)):
        return None
    return cast(np.generic, array[(0,) * array.ndim])


def _repeated(element: object, shape: Shape) -> Array:
    one = np.array(element)
    one.flags.writeable = False
    return repeated(one, shape)


@lru_cache(maxsize=64)
def _one(dtype: DType) -> Array:
    one = np.ones((), dtype)
    one.flags.writeable = False  # of a writable array a node would keep a full copy
    return one


def unit_matrices(part: object) -> object:
    """Return unit matrices in place of abstract ones."""
    if not isinstance(part, np.ndarray) or part.ndim < 2 or any(part.strides) or part.shape[-1] != part.shape[-2]:
        return part
    return np.broadcast_to(np.eye(part.shape[-1], dtype=part.dtype), part.shape)
