"""Primitives that pick elements, and their transposes, which scatter and add: each is the rule of the other."""

from __future__ import annotations

import operator
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import DTypeLike

from ..engine.arrays import delivered, frozen
from ..engine.operands import without_gradient
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array, context
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.types import Index, IndexPart, Numbers
from ..errors import DTypeError, ShapeError, TraceError
from .axes import one, single

_INTP = np.dtype(np.intp)
_ALL = slice(None)
_FEW = 4096  # numbers that `np.add.at` adds up faster than a sort does


def _plain(index: Index) -> Index:
    """Return an index that cannot change later: integer and boolean arrays copied, Tensors unwrapped."""
    return tuple(map(_plain_part, index)) if isinstance(index, tuple) else _plain_part(index)


def _plain_part(index: IndexPart) -> IndexPart:
    if isinstance(index, Tensor):
        if context().tracer is None:
            index = index._array
        elif index.dtype.kind == "b":
            raise TraceError(
                "getitem: compile() cannot record a boolean index, as the shape of the result depends on values; "
                "use where()"
            )
        else:
            index = without_gradient("index", _plain_part, index)
    elif isinstance(index, list):
        index = np.asarray(index, dtype=None if index else int)
    if isinstance(index, np.ndarray):
        if index.dtype.kind not in "iub":
            raise DTypeError(f"getitem: an index array must hold integers or booleans, got dtype {index.dtype}")
        return frozen(index if index.dtype.kind == "b" else as_ids("getitem", index))
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        as_ids("getitem", np.asarray(index))
    return index


def as_ids(function: str, ids: Array) -> Array:
    """Return integer ids as `np.intp`; NumPy takes uint64 for an index too, but reads 2**64 - 1 as -1.

    Raises:
        IndexError: if an id does not fit.
    """
    if ids.dtype == _INTP:
        return ids
    if not np.can_cast(ids.dtype, np.intp) and ids.size:  # an object is a Python number beyond every integer dtype
        room = np.iinfo(np.intp)
        wrong = np.asarray((ids < room.min) | (ids > room.max), bool)
        if wrong.any():
            raise IndexError(f"{function}: id {ids[wrong][0]} is out of range for every axis")
    return ids.astype(np.intp, copy=False)


def _is_basic(index: Index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, np.ndarray) for part in parts)


def _zeros(shape: tuple[int, ...], dtype: DTypeLike, out: Array | None) -> Array:
    """Return zeros to add into: `out`, or a new array."""
    if out is None:
        return np.zeros(shape, dtype)
    if out.shape != shape:
        raise ValueError(f"expected out of shape {shape}, got {out.shape}")
    out.fill(0)
    return out


@primitive()
def _getitem(x: Array, /, index: Index, *, out: Array | None = None) -> Array:
    parts = index if isinstance(index, tuple) else (index,)
    if not any(part is ... for part in parts):
        parts = *parts, ...  # with it, a single element is a view as well, as plans and exports need it
    return delivered(np.asarray(x)[parts], out)


@_getitem.rule()
def _(g: Value, y: Value, x: Value, *, index: Index) -> Cotangents:
    return (_scatter(g, index=index, shape=x.shape),)


@primitive()
def _scatter(g: Array, /, index: Index, shape: tuple[int, ...], *, out: Array | None = None) -> Array:
    out = _zeros(shape, np.asarray(g).dtype, out)
    if _is_basic(index):
        out[index] = g
    else:
        _add_at(out, index, g)
    return out


@_scatter.rule()
def _(g: Value, y: Value, x: Value, *, index: Index, shape: tuple[int, ...]) -> Cotangents:
    return (_getitem(g, index=index),)


@unary(operator.getitem)
def getitem(x: Operand, index: Index) -> Value:
    """Return x[index]: slices, integers, None, Ellipsis, integer or boolean arrays. Repeated picks add up.

    With one array of integers, as in E[ids] or x[:, ids], it is `take`, which has a rule and kernels for lookups.
    """
    parts = index if isinstance(index, tuple) else (index,)
    axis = _axis_of_ids(parts)
    if axis is not None and len(parts) <= len(shape_of(x)):
        return _take(x, indices=_ids("getitem", cast(Operand, parts[axis])), axis=axis)
    return _getitem(x, index=_plain(index))


def _axis_of_ids(parts: tuple[IndexPart, ...]) -> int | None:
    """Return which part of an index is an array of integers, if all others are `:`."""
    found = None
    for axis, part in enumerate(parts):
        if isinstance(part, slice):
            if part != _ALL:
                return None
        elif found is None and (kind := _kind(part)) and kind in "iu":
            found = axis
        else:
            return None
    return found


def _kind(part: IndexPart) -> str:
    """Return the kind of dtype of a part of an index that is an array or a list, or ""."""
    if isinstance(part, list):
        return np.asarray(part, None if part else int).dtype.kind
    return part.dtype.kind if isinstance(part, Tensor | np.ndarray) else ""


def _ids(function: str, indices: Operand) -> Array:
    """Return indices as an array of `np.intp`; while `compile` records, as a Tensor."""
    if context().tracer is None:
        if type(indices) is np.ndarray and indices.dtype == _INTP:
            return frozen(indices)
    elif isinstance(indices, Tensor) and indices.dtype == _INTP:
        return cast(Array, indices)  # there is nothing to look at in each replay
    ids: Array = without_gradient("ids", partial(_checked_ids, function=function), indices)
    return frozen(ids) if isinstance(ids, np.ndarray) else ids


def _checked_ids(indices: Numbers, function: str) -> Array:
    ids = np.asarray(indices)
    if ids.dtype.kind not in "iu" and ids.size:
        raise DTypeError(f"{function}: expected integer indices, got dtype {ids.dtype} of shape {ids.shape}")
    return as_ids(function, ids)


@primitive(canonical=single)
def _take(x: Array, /, indices: Array, axis: int, *, out: Array | None = None) -> Array:
    if out is None:
        return np.take(x, indices, axis=axis)
    # While it looks for an index out of range, NumPy takes into a buffer and then copies: look before.
    length = np.shape(x)[axis]
    if out.size and not -length <= indices.min() <= indices.max() < length:
        raise IndexError(f"take: index out of range for axis {axis} with size {length}")
    return np.take(x, indices, axis=axis, out=out, mode="wrap")


@_take.rule()
def _(g: Value, y: Value, x: Value, *, indices: Array, axis: int) -> Cotangents:
    return (_take_back(g, indices=indices, axis=axis, shape=x.shape),)


@primitive()
def _take_back(g: Array, /, indices: Array, axis: int, shape: tuple[int, ...], *, out: Array | None = None) -> Array:
    """Add the slices of g to the places that `indices` name.

    Sorting the ids and adding up runs of equal ones is about three times faster than `np.add.at` on natural text, and
    slower for few numbers. Both add in the same order.
    """
    rows = np.asarray(g)
    if axis:
        rows = np.moveaxis(rows, range(axis, axis + indices.ndim), range(indices.ndim))
    rows = rows.reshape(indices.size, *shape[:axis], *shape[axis + 1 :])
    out = _zeros(shape, rows.dtype, out)
    if rows.size:
        ids = indices.ravel() % shape[axis]
        table = np.moveaxis(out, axis, 0) if axis else out
        if rows.size <= _FEW:
            _add_at(table, ids, rows)
        else:
            first, sums = add_equal(rows, ids)
            table[ids[first]] = sums
    return out


def take_back(rows: Array, ids: Array, shape: tuple[int, ...]) -> Array:
    """Return zeros of this shape, to which each of the rows (R, ...) is added where the first axis has its id (R,)."""
    return cast(Array, _take_back(cast(Tensor, rows), indices=ids, axis=0, shape=shape))


def add_equal(rows: Array, ids: Array) -> tuple[Array, Array]:
    """Return where each id stands first, and the sums of the rows (R, ...) that have the same one of the ids (R,).

    Rows are added up in their order, those of half precision in float32.
    """
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    starts = np.concatenate(([0], np.flatnonzero(sorted_ids[1:] != sorted_ids[:-1]) + 1))
    return order[starts], np.add.reduceat(rows[order], starts, axis=0, dtype=np.result_type(rows, np.float32))


@_take_back.rule()
def _(g: Value, y: Value, x: Value, *, indices: Array, axis: int, shape: tuple[int, ...]) -> Cotangents:
    return (_take(g, indices=indices, axis=axis),)


@unary(np.take)
def take(a: Operand, indices: Operand, axis: int | None = None) -> Value:
    """Return the slices of `a` along `axis` named by integer `indices` (None: of the flattened array).

    The embedding lookup: `take(W, ids, axis=0)` with W (V, D) and ids (N, T) gives (N, T, D). The cotangents of an id
    that occurs several times add up.

    Raises:
        IndexError: if an index is out of range.
        DTypeError: if the indices are not integers.
    """
    ids = _ids("take", indices)
    if axis is None:
        return _take(np.reshape(a, (-1,)), indices=ids, axis=0)
    return _take(a, indices=ids, axis=axis)


@primitive(canonical=single)
def _take_along(x: Array, /, indices: Array, axis: int, *, out: Array | None = None) -> Array:
    return delivered(np.take_along_axis(np.asarray(x), indices, axis=axis), out)


@_take_along.rule()
def _(g: Value, y: Value, x: Value, *, indices: Array, axis: int) -> Cotangents:
    return (_take_along_back(g, indices=indices, axis=axis, shape=x.shape),)


@primitive()
def _take_along_back(
    g: Array, /, indices: Array, axis: int, shape: tuple[int, ...], *, out: Array | None = None
) -> Array:
    out = _zeros(shape, np.asarray(g).dtype, out)
    places: list[Array] = list(np.ix_(*(np.arange(n) for n in shape)))
    places[axis] = indices
    _add_at(out, tuple(places), g)
    return out


def _add_at(out: Array, index: Index, g: Array) -> None:
    """Add g to zeros at an index, in float32 at least; an element that is named several times gets the sum."""
    total = out.astype(np.float32) if out.dtype == np.float16 else out
    np.add.at(total, index, g)  # type: ignore[arg-type]  # slices too
    if total is not out:
        out[...] = total


@_take_along_back.rule()
def _(g: Value, y: Value, x: Value, *, indices: Array, axis: int, shape: tuple[int, ...]) -> Cotangents:
    return (_take_along(g, indices=indices, axis=axis),)


@unary(np.take_along_axis)
def take_along_axis(arr: Operand, indices: Operand, axis: int | None = -1) -> Value:
    """Return the elements of `arr` that `indices`, of as many axes, names along `axis` (None: of the flattened array).

    Raises:
        IndexError: if an index is out of range.
        DTypeError: if the indices are not integers.
        ShapeError: if `indices` has another number of axes.
    """
    ids = _ids("take_along_axis", indices)
    if axis is None:
        arr, axis = np.reshape(arr, (-1,)), 0
    shape = shape_of(arr)
    if len(ids.shape) != len(shape):
        raise ShapeError(
            f"take_along_axis: indices must have as many axes as an operand of shape {shape}, got shape {ids.shape}"
        )
    return _take_along(arr, indices=ids, axis=one("take_along_axis", axis, shape))
