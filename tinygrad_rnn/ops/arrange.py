"""Functions that move and repeat elements: roll, repeat, tile, flip, pad and their like, derived from primitives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..engine.methods import SortKind
from ..engine.operands import as_value
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Axis, IndexPart, Numbers
from ..errors import ShapeError, UnsupportedError
from .axes import normalized, one
from .elementwise import add
from .index import _scatter, getitem, take, take_along_axis
from .shape import broadcast_to, concatenate, expand_dims, moveaxis, ravel, reshape, swapaxes


@unary()
def part_of(a: Operand, axis: int, index: IndexPart) -> Value:
    """Return a[..., index, ...] with `index` at `axis`, which counts from the front."""
    return getitem(a, (*(slice(None),) * axis, index))


@unary(np.copy)
def copy(a: Operand) -> Value:
    """Return a Tensor of its own with the same values; the cotangent goes on to `a`."""
    return reshape(a, shape_of(a))


@unary(np.roll)
def roll(a: Operand, shift: int | Sequence[int], axis: Axis = None) -> Value:
    """Return a with its elements moved by `shift` places along `axis` (None: of the flattened array), round the end.

    >>> import tinygrad_rnn as tr
    >>> tr.roll([1, 2, 3, 4], 1)
    array([4, 1, 2, 3])
    """
    if axis is None:
        return reshape(roll(ravel(a), int(np.sum(shift)), 0), shape_of(a))
    axes = [one("roll", part, shape_of(a)) for part in (axis if isinstance(axis, tuple | list) else (axis,))]
    if np.size(shift) != len(axes) and 1 not in (np.size(shift), len(axes)):
        raise ShapeError(f"roll: expected a shift for each of {len(axes)} axes, or one, got {shift!r}")
    shifts, places = np.broadcast_arrays(np.atleast_1d(shift), axes)
    for by, place in zip(shifts.tolist(), places.tolist(), strict=True):
        length = shape_of(a)[place]
        at = length - by % length if length else 0
        a = concatenate([part_of(a, place, slice(at, None)), part_of(a, place, slice(None, at))], axis=place)
    return as_value(a)


@unary(np.repeat)
def repeat(a: Operand, repeats: int | Sequence[int], axis: int | None = None) -> Value:
    """Return a with each slice along `axis` (None: each element) repeated; `repeats` may differ from slice to slice.

    >>> import tinygrad_rnn as tr
    >>> tr.repeat([1, 2], 2), tr.repeat([1, 2], [3, 1])
    (array([1, 1, 2, 2]), array([1, 1, 1, 2]))
    """
    if axis is None:
        return repeat(ravel(a), repeats, 0)
    shape, counts = shape_of(a), np.asarray(repeats)
    place = one("repeat", axis, shape)
    if counts.dtype.kind not in "iu" or np.any(counts < 0) or counts.shape not in ((), (1,), (shape[place],)):
        raise ShapeError(
            f"repeat: repeats must be an integer that is not negative, or {shape[place]} of them, got {repeats!r}"
        )
    if counts.size != 1:
        return take(a, np.repeat(np.arange(shape[place]), counts), axis=place)
    count, before, after = counts.item(), shape[: place + 1], shape[place + 1 :]
    each = broadcast_to(expand_dims(a, place + 1), (*before, count, *after))
    return reshape(each, (*shape[:place], shape[place] * count, *after))


@unary(np.tile)
def tile(A: Operand, reps: int | Sequence[int]) -> Value:
    """Return A put side by side `reps` times along each axis; axes are counted from the last."""
    shape, given = shape_of(A), np.atleast_1d(reps)
    if (given.dtype.kind not in "iu" and given.size) or np.any(given < 0):
        raise ShapeError(f"tile: reps must be integers that are not negative, got {reps!r}")
    counts = tuple(given.astype(int).tolist())
    ndim = max(len(counts), len(shape))
    shape, counts = (1,) * (ndim - len(shape)) + shape, (1,) * (ndim - len(counts)) + counts
    apart = [length for pair in zip((1,) * ndim, shape, strict=True) for length in pair]
    several = [length for pair in zip(counts, shape, strict=True) for length in pair]
    made = broadcast_to(reshape(A, tuple(apart)), tuple(several))
    return reshape(made, tuple(count * length for count, length in zip(counts, shape, strict=True)))


@unary(np.flip)
def flip(m: Operand, axis: Axis = None) -> Value:
    """Return m with the order of its elements reversed along `axis` (None: along all axes)."""
    shape = shape_of(m)
    axes = range(len(shape)) if axis is None else normalized("flip", axis, shape)
    return getitem(m, tuple(slice(None, None, -1 if place in axes else None) for place in range(len(shape))))


@unary(np.flipud)
def flipud(m: Operand) -> Value:
    """Return m with axis 0 reversed."""
    return flip(m, 0)


@unary(np.fliplr)
def fliplr(m: Operand) -> Value:
    """Return m with axis 1 reversed."""
    return flip(m, 1)


@unary(np.rot90)
def rot90(m: Operand, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Value:
    """Return m turned `k` times by 90 degrees in the plane of two axes, from the first towards the second."""
    first, second = normalized("rot90", tuple(axes), shape_of(m), "axes")
    if k % 4 == 0:
        return copy(m)
    if k % 4 == 2:
        return flip(m, (first, second))
    return swapaxes(flip(m, second), first, second) if k % 4 == 1 else flip(swapaxes(m, first, second), second)


@unary(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x: Operand, /) -> Value:
    """Return x with its last two axes exchanged."""
    return swapaxes(x, -1, -2)


@unary(np.rollaxis)
def rollaxis(a: Operand, axis: int, start: int = 0) -> Value:
    """Return a with `axis` moved before the axis `start`."""
    shape = shape_of(a)
    axis, start = one("rollaxis", axis, shape), one("rollaxis", start, (*shape, 1), "start")
    return moveaxis(a, axis, start - (start > axis))


@unary(np.delete)
def delete(arr: Operand, obj: int | slice | Sequence[int] | Array, axis: int | None = None) -> Value:
    """Return arr without the slices along `axis` (None: of the flattened array) that `obj` names."""
    if axis is None:
        return delete(ravel(arr), obj, 0)
    place = one("delete", axis, shape_of(arr))
    return take(arr, np.delete(np.arange(shape_of(arr)[place]), obj), axis=place)


@unary(np.sort)
def sort(a: Operand, axis: int | None = -1, kind: SortKind | None = None, *, stable: bool | None = None) -> Value:
    """Return a sorted along `axis` (None: the flattened array); the cotangent goes where each element came from."""
    if axis is None:
        return sort(ravel(a), 0, kind, stable=stable)
    place = one("sort", axis, shape_of(a))
    return take_along_axis(a, np.argsort(a, axis=place, kind=kind, stable=stable), axis=place)


PadWidth: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | Array | Mapping[int, int | Sequence[int]]
"""Elements before and after, of all axes or of each; see `pad`."""

_BY_PLACE = ("edge", "reflect", "symmetric", "wrap")


@unary(np.pad)
def pad(array: Operand, pad_width: PadWidth, mode: str = "constant", *, constant_values: Numbers = 0) -> Value:
    """Return `array` with `pad_width` elements put before and after it along each axis.

    Args:
        array: of any shape.
        pad_width: one integer, a pair (before, after), a pair for each axis, or a dict from axes to those.
        mode: "constant", or what is repeated: "edge", "reflect", "symmetric", "wrap".
        constant_values: for "constant", in the forms of `pad_width`; plain numbers.

    Raises:
        UnsupportedError: for any other mode.

    >>> import tinygrad_rnn as tr
    >>> tr.pad([1, 2, 3], (1, 2)), tr.pad([1, 2, 3], 2, mode="reflect")
    (array([0, 1, 2, 3, 0, 0]), array([3, 2, 1, 2, 3, 2, 1]))
    """
    shape = shape_of(array)
    widths = _pairs("pad_width", pad_width, shape)
    if mode == "constant":
        whole = tuple(length + sum(pair) for length, pair in zip(shape, widths, strict=True))
        inside = tuple(slice(before, before + length) for length, (before, _) in zip(shape, widths, strict=True))
        made = _scatter(array, inside, whole)
        if not np.any(constant_values):
            return made
        along = [length if any(pair) else 1 for length, pair in zip(shape, widths, strict=True)]
        border = np.pad(np.zeros(along, made.dtype), widths, constant_values=constant_values)
        return add(made, border)  # axes without padding are broadcast
    if mode not in _BY_PLACE:
        raise UnsupportedError(f"pad: mode must be one of {('constant', *_BY_PLACE)}, got {mode!r}")
    for axis, pair in enumerate(widths):
        if any(pair):
            array = take(array, np.pad(np.arange(shape[axis]), pair, mode=mode), axis=axis)  # type: ignore[call-overload]
    return as_value(array)


def _pairs(argument: str, given: PadWidth, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (before, after) for each axis."""
    if isinstance(given, Mapping):
        found = [(0, 0)] * len(shape)
        for axis, pair in given.items():
            found[one("pad", axis, shape, argument)] = _pairs(argument, pair, (1,))[0]
        return found
    widths = np.asarray(given)
    if (
        widths.dtype.kind not in "iu"
        or np.any(widths < 0)
        or widths.shape not in ((), (1,), (2,), (1, 2), (len(shape), 2))
    ):
        raise ShapeError(
            f"pad: {argument} must be one integer, a pair, or a pair for each of {len(shape)} axes, none negative, "
            f"got {given!r}"
        )
    return [(int(before), int(after)) for before, after in np.broadcast_to(widths, (len(shape), 2))]
