"""Constants whose shape or content depends on the sizes: zeros (N, H), the numbers of the steps (T,)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.ir.graph import Value
from ...engine.tape import Array
from ...errors import UnsupportedError
from .scope import Scope


def write_varying(scope: Scope, value: Value, title: str) -> str:
    """Write the nodes that make a constant; return its name.

    Known are arrays with one element everywhere, and whole numbers that change evenly along each axis, as in `arange`.

    Raises:
        UnsupportedError: if it is neither.
    """
    arrays = scope.arrays(value)
    if arrays is None:
        raise RuntimeError(f"export: {value!r} is read before it is computed")
    shape = scope.shape(value)
    if all(_is_uniform(array) and array.flat[0] == arrays[0].flat[0] for array in arrays if array.size):
        number = next((array.flat[0] for array in arrays if array.size), 0)
        return scope.expand(scope.constant(number, value.dtype), (), shape)
    ways = [_ways(array) if array.size and array.dtype.kind in "iuf" else None for array in arrays]
    if any(way is None for way in ways):
        raise _unknown(value, title)
    name = scope.scalar(scope.book.sized.length([int(array.flat[0]) for array in arrays], f"an entry of {title}"))
    for axis, steps in enumerate(zip(*(way for way in ways if way is not None), strict=True)):
        if any(steps):
            way = scope.scalar(scope.book.sized.length(steps, f"a difference of entries of {title}"))
            count = scope.node("Range", scope.scalar(0), scope.scalar(shape[axis]), scope.scalar(1))
            along = scope.node("Mul", count, way)
            along = scope.node("Reshape", along, scope.integers([-1] + [1] * (len(shape) - 1 - axis)))
            name = scope.node("Add", name, along)
    name = scope.node("Expand", name, scope.vector(shape), name=title)
    return scope.cast(name, np.dtype(np.int64), value.dtype)


def _is_uniform(array: Array) -> bool:
    return array.size == 0 or bool((array == array.flat[0]).all())


def _ways(array: Array) -> Sequence[int] | None:
    """Return by how much whole numbers differ along each axis; None if not evenly."""
    ways = [int(np.take(array, 1, axis).flat[0] - array.flat[0]) if n > 1 else 0 for axis, n in enumerate(array.shape)]
    even = array.flat[0] + sum(way * places for way, places in zip(ways, np.indices(array.shape), strict=True))
    return ways if np.array_equal(even, array) else None


def _unknown(value: Value, title: str) -> UnsupportedError:
    return UnsupportedError(
        f"export: the {title} {value!r} depends on the sizes and is neither the same everywhere nor a range; pass it "
        "as an argument, or give axes= without these sizes, so that they are fixed"
    )
