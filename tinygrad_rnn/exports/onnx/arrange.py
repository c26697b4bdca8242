"""Operations that move elements and compute nothing, as nodes: shapes, slices, joins, lookups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np

from ...compiler.ir.graph import Call, Value
from ...engine.tape import Array
from ...errors import UnsupportedError
from .directions import FIRST
from .extents import Extent, Length, Lengths
from .scope import Scope, Writer

_INTEGERS = np.dtype(np.int64)
_FAR = np.iinfo(np.int64).max


def first_operand(to: Scope, call: Call) -> tuple[str, Lengths]:
    """Return name and shape of the first operand; a number is an array without axes."""
    part = call.inputs[0]
    shape = to.shape(part) if isinstance(part, Value) else np.shape(part)
    return to.operand(part, call.outputs[0].dtype), shape


def _same(to: Scope, call: Call) -> list[str]:
    return [first_operand(to, call)[0]]


def _reshape(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    return [to.reshape(name, shape, to.shape(call.output))]


def _broadcast(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    return [to.expand(name, shape, to.shape(call.output))]


def _transpose(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    axes = call.attrs.get("axes")
    order = range(len(shape))[::-1] if axes is None else [axis % len(shape) for axis in axes]
    return [to.node("Transpose", name, perm=list(order))]


def _axis(call: Call, ndim: int, default: int = 0) -> int:
    return int(call.attrs.get("axis", default)) % ndim


def _split(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    axis = _axis(call, len(shape))
    lengths = [to.shape(part)[axis] for part in call.outputs]
    if len(lengths) == 1:
        return [name]
    fixed = [one for one in (*lengths, shape[axis]) if isinstance(one, int)]
    if len(fixed) > len(lengths) and sum(fixed) != 2 * fixed[-1]:  # sections that overlap, or leave something out
        bounds = [None, *cast("tuple[int, ...]", call.attrs["indices_or_sections"]), None]
        return [
            _sliced(to, name, [*[slice(None)] * axis, slice(start, end)]) for start, end in itertools.pairwise(bounds)
        ]
    return to.nodes("Split", [name, to.vector(lengths)], len(lengths), {"axis": axis})


def _unstack(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    axis, count = _axis(call, len(shape)), len(call.outputs)
    parts = [name]
    if count > 1:
        parts = to.nodes("Split", [name, to.integers([1] * count)], count, {"axis": axis})
    return [to.node("Squeeze", part, to.integers([axis])) for part in parts]


def _joined(to: Scope, call: Call) -> list[str]:
    return [to.operand(part, call.output.dtype) for part in to.book.sized.inputs(call)]


def _stack(to: Scope, call: Call) -> list[str]:
    axis = _axis(call, call.output.ndim)
    parts = [to.node("Unsqueeze", part, to.integers([axis])) for part in _joined(to, call)]
    return [parts[0] if len(parts) == 1 else to.node("Concat", *parts, axis=axis)]


def _concatenate(to: Scope, call: Call) -> list[str]:
    parts = _joined(to, call)
    return [parts[0] if len(parts) == 1 else to.node("Concat", *parts, axis=_axis(call, call.output.ndim))]


# -- lookups ----------------------------------------------------------------------------------------------------------


def _take(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    ids = to.operand(to.book.sized.attributes(call)["indices"], _INTEGERS)
    return [to.node("Gather", name, ids, axis=_axis(call, len(shape)))]


def _take_along(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    axis, ids = _axis(call, len(shape)), cast(Value, call.attrs["indices"])
    if _is_reversed(to, ids, shape, axis):
        one = to.integers([-1])
        return [to.node("Slice", name, one, to.integers([FIRST]), to.integers([axis]), one)]
    chosen = to.expand(to.operand(ids, _INTEGERS), to.shape(ids), to.shape(call.output))
    return [to.node("GatherElements", name, chosen, axis=axis)]


def _is_reversed(to: Scope, ids: Value, shape: Lengths, axis: int) -> bool:
    """Return whether the indices are the last to the first of an axis, for all the others."""
    arrays = to.arrays(ids)
    if arrays is None or to.shape(ids)[axis] != shape[axis]:
        return False
    for array in arrays:
        backward = np.arange(array.shape[axis])[::-1].reshape([-1 if one == axis else 1 for one in range(array.ndim)])
        if not (array == backward).all():
            return False
    return True


def _take_back(to: Scope, call: Call) -> list[str]:
    name, _ = first_operand(to, call)
    shape, axis = to.shape(call.output), _axis(call, call.output.ndim)
    if axis:
        raise UnsupportedError("export: ONNX has no gradient of take along another axis than 0; transpose first")
    zeros = to.expand(to.constant(0, call.output.dtype), (), shape)
    ids = to.operand(call.attrs["indices"], _INTEGERS)
    return [to.node("ScatterND", zeros, to.node("Unsqueeze", ids, to.integers([-1])), name, reduction="add")]


def _take_along_back(to: Scope, call: Call) -> list[str]:
    name, _ = first_operand(to, call)
    ids = cast(Value, call.attrs["indices"])
    given = to.shape(cast(Value, call.inputs[0]))
    zeros = to.expand(to.constant(0, call.output.dtype), (), to.shape(call.output))
    chosen = to.expand(to.operand(ids, _INTEGERS), to.shape(ids), given)
    axis = _axis(call, call.output.ndim)
    return [to.node("ScatterElements", zeros, chosen, name, axis=axis, reduction="add")]


# -- indices ----------------------------------------------------------------------------------------------------------


def _parts(index: object, ndim: int) -> list[object]:
    """Return an index with one part for each axis of the array, and None for each new one."""
    parts: list[object] = [*index] if isinstance(index, tuple) else [index]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    parts = [_without_mask(part) for part in parts]
    fill: list[object] = [slice(None)] * (ndim - used)
    place = next((number for number, part in enumerate(parts) if part is Ellipsis), len(parts))
    return [*parts[:place], *fill, *parts[place + 1 :]]


def _without_mask(part: object) -> object:
    """Return the ids that a mask stands for; anything else as it is.

    Raises:
        UnsupportedError: if the mask has several axes.
    """
    if not isinstance(part, np.ndarray) or part.dtype != bool:
        return part
    if part.ndim != 1:
        raise UnsupportedError("export: an index by a mask of several axes; use where(), or x[np.nonzero(mask)]")
    return np.flatnonzero(part)


def _getitem(to: Scope, call: Call) -> list[str]:
    name, shape = first_operand(to, call)
    parts = _parts(to.book.sized.attributes(call)["index"], len(shape))
    arrays = [number for number, part in enumerate(parts) if isinstance(part, Value | np.ndarray)]
    if len(arrays) > 1:
        return [_gathered(to, call, name, parts, arrays)]
    name = _sliced(to, name, [part for part in parts if part is not None])
    axis = 0
    for part in parts:
        if part is None:
            name = to.node("Unsqueeze", name, to.integers([axis]))
        elif isinstance(part, int | Extent):
            name = to.node("Gather", name, to.scalar(part), axis=axis)
            axis -= 1
        elif isinstance(part, Value | np.ndarray):
            if any(isinstance(other, int | Extent) for other in parts):
                raise UnsupportedError("export: an index of an array and an integer; take them one after the other")
            name = to.node("Gather", name, _ids(to, part), axis=axis)
            axis += part.ndim - 1
        axis += 1
    return [name]


def _ids(to: Scope, part: Value | Array) -> str:
    return to.operand(part if isinstance(part, Value) else np.asarray(part), _INTEGERS)


def _sliced(to: Scope, name: str, parts: Sequence[object]) -> str:
    """Return the name of an array of which the slices of an index have been taken."""
    found = [(axis, part) for axis, part in enumerate(parts) if isinstance(part, slice) and part != slice(None)]
    if not found:
        return name
    starts: list[Length] = []
    ends: list[Length] = []
    steps: list[int] = []
    for _, part in found:
        step = 1 if part.step is None else int(part.step)
        starts.append((0 if step > 0 else _FAR) if part.start is None else part.start)
        ends.append((_FAR if step > 0 else FIRST) if part.stop is None else part.stop)
        steps.append(step)
    axes = to.integers([axis for axis, _ in found])
    return to.node("Slice", name, to.vector(starts), to.vector(ends), axes, to.integers(steps))


def _gathered(to: Scope, call: Call, name: str, parts: list[object], arrays: list[int]) -> str:
    """Write an index by several arrays, which come first."""
    if arrays != list(range(len(arrays))) or any(part != slice(None) for part in parts[len(arrays) :]):
        raise UnsupportedError(
            "export: an index of several arrays must have them first, and nothing but whole axes after"
        )
    kept = call.output.ndim - (len(parts) - len(arrays))
    shape = to.shape(call.output)[:kept]
    columns = []
    for number in arrays:
        part = cast("Value | Array", parts[number])
        given = to.shape(part) if isinstance(part, Value) else part.shape
        columns.append(to.node("Unsqueeze", to.expand(_ids(to, part), given, shape), to.integers([-1])))
    return to.node("GatherND", name, to.node("Concat", *columns, axis=-1))


ARRANGE: dict[str, Writer] = {
    **dict.fromkeys(("cut", "contiguous", "copy"), _same),
    "reshape": _reshape,
    "broadcast_to": _broadcast,
    "transpose": _transpose,
    "split": _split,
    "unstack": _unstack,
    "stack": _stack,
    "concatenate": _concatenate,
    "take": _take,
    "take_along": _take_along,
    "take_back": _take_back,
    "take_along_back": _take_along_back,
    "getitem": _getitem,
}
"""Writers of operations that compute nothing, by name of the operator."""
