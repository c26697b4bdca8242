"""Conversion of arrays of other libraries, and of arrays of different lengths, to NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from numbers import Real
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..checks import instance, integer
from ..engine.arrays import check_plain
from ..engine.tree import flatten, map_leaves
from ..errors import DTypeError, ShapeError

Array: TypeAlias = npt.NDArray[np.generic]


@runtime_checkable
class _Detachable(Protocol):
    """An object whose array may be part of a graph, or on another device, as in PyTorch."""

    def detach(self) -> _Detachable:
        """Return it outside of the graph."""

    def cpu(self) -> _Detachable:
        """Return it in the memory of the host."""

    def numpy(self) -> Array:
        """Return its array."""


@runtime_checkable
class _Convertible(Protocol):
    """An object that converts itself, as the tables and columns of pandas and Polars do."""

    def to_numpy(self) -> Array:
        """Return its array."""


_FOREIGN = (_Detachable, _Convertible)
Nest = TypeVar("Nest")

Given: TypeAlias = npt.ArrayLike | _Detachable | _Convertible
"""Values accepted as an array: NumPy arrays, lists of numbers, columns and tables of pandas, tensors of PyTorch."""


def as_array(function: str, name: str, given: object) -> Array:
    """Return the given values as an array of numbers or booleans.

    They are recognized by their methods, so that no other library is imported, and copied only if necessary.

    Args:
        function: what the user called, for messages.
        name: of the argument.
        given: the values.

    Raises:
        DTypeError: if they are not real numbers or booleans, or their mask would be lost.
        ShapeError: if they are rows of different lengths.

    >>> as_array("f", "x", [1, 2])
    array([1, 2])
    """
    check_plain(given, f"{function}: {name}")
    try:
        array = converted(given)
    except ValueError as error:
        raise ShapeError(f"{function}: {name} is not an array: {error}; pass arrays of one shape") from error
    if array.dtype == np.object_ and all(isinstance(value, int | float | np.number) for value in array.flat):
        array = array.astype(np.float64)  # a column that once held something else, missing values for instance
    if array.dtype.kind not in "biuf":
        advice = "encode it as numbers, labels by np.unique(labels, return_inverse=True)[1]"
        raise DTypeError(f"{function}: expected {name} of real numbers, got dtype {array.dtype}; {advice}")
    return array


def as_batch(nest: Nest) -> Nest:
    """Return a batch with arrays in place of what other libraries hold; all else in it is left as it is.

    >>> as_batch([1, np.zeros(2)])
    [1, array([0., 0.])]
    """
    foreign = any(map(_is_foreign, flatten(nest)))
    return map_leaves(lambda x: converted(x) if _is_foreign(x) else x, nest) if foreign else nest


def _is_foreign(value: object) -> bool:
    """Return whether a value converts itself."""
    kind: type = type(value)
    return _is_foreign_type(kind)


@lru_cache(maxsize=256)
def _is_foreign_type(kind: type) -> bool:
    """Return whether values of a type convert themselves: asking a protocol takes ten microseconds each time."""
    return issubclass(kind, _FOREIGN)


def converted(given: object) -> Array:
    """Return the given values as an array of any dtype, such as one of strings.

    >>> converted(["a", "b"]).shape
    (2,)
    """
    if not _is_foreign(given):
        return np.asarray(given)
    if isinstance(given, _Detachable):
        return given.detach().cpu().numpy()
    return np.asarray(given.to_numpy() if isinstance(given, _Convertible) else given)


def pad_sequences(rows: Iterable[Given], value: float = 0, multiple: int = 1) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return sequences of different lengths as one array, padded at the end.

    Args:
        rows: N arrays of shapes (T_n, ...) that agree except for T_n.
        value: the padding after the end.
        multiple: T is rounded up to a multiple of it, so that fewer lengths occur.

    Returns:
        The array (N, T, ...) and the lengths T_n (N,).

    Raises:
        ShapeError: if there are no rows, one has no axis, or they do not agree.
        DTypeError: if they are not real numbers.

    >>> array, lengths = pad_sequences([[1, 2, 3], [4]], value=-1)
    >>> array.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, -1, -1]], [3, 1])
    """
    arrays = [as_array("pad_sequences", f"rows[{n}]", row) for n, row in enumerate(rows)]
    if not arrays:
        raise ShapeError("pad_sequences: there are no rows; pass one or more")
    instance("pad_sequences", "value", value, Real)
    return padded(arrays, value, integer("pad_sequences", "multiple", multiple), check_rows("pad_sequences", arrays))


def check_rows(function: str, arrays: Sequence[Array], name: str = "rows") -> npt.NDArray[np.int64]:
    """Return the lengths of arrays that agree except for their first axis.

    Raises:
        ShapeError: if they do not, or one has no axis.
    """
    for n, array in enumerate(arrays):
        if array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:]:
            raise ShapeError(
                f"{function}: expected {name} of shapes (T_n, ...) that agree but for T_n, got {arrays[0].shape} for "
                f"the first and {array.shape} for {name}[{n}]"
            )
    return np.array([len(array) for array in arrays], np.int64)


def padded(
    arrays: Sequence[Array], value: float, multiple: int, lengths: npt.NDArray[np.int64]
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return checked arrays as one; see `pad_sequences`."""
    T = -(-int(lengths.max()) // multiple) * multiple
    whole = np.full((len(arrays), T, *arrays[0].shape[1:]), value, np.result_type(*arrays))
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole, lengths
