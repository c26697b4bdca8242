"""Patterns of a wrong result that say what was done: late by a step, cut off, in another order, an axis too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import numpy as np

from ...engine.tape import Array
from ..exercises.text import Text

Equal = Callable[[Array, Array], bool]
"""Whether two arrays are equal within the tolerance of the exercise; those of different shapes are not."""

_AXES = Text("holds the right numbers with its axes in the order {order}", "数值正确，但各轴的顺序是 {order}")
_TURNED = Text("holds the right numbers, transposed", "数值正确，但被转置了")
_TURNED_TOO = Text("has shape {got}, expected {shape}: transposed", "的形状是 {got}，应当是 {shape}：被转置了")
_SUMMED = Text(
    "has shape {got}, expected {shape}: its {sum} over axis {axis} is right",
    "的形状是 {got}，应当是 {shape}：沿第 {axis} 个轴{sum}之后就正确",
)
_EXTENT = Text("has shape {got}, expected {shape}: the numbers are right", "的形状是 {got}，应当是 {shape}：数值都正确")
_START = Text(
    "has shape {got}, expected {shape}: the first {count} along axis {axis} are right",
    "的形状是 {got}，应当是 {shape}：第 {axis} 个轴上的前 {count} 个是正确的",
)
_END = Text(
    "has shape {got}, expected {shape}: the last {count} along axis {axis} are right",
    "的形状是 {got}，应当是 {shape}：第 {axis} 个轴上的后 {count} 个是正确的",
)
_INSIDE = Text(
    "has shape {got}, expected {shape}: the {count} along axis {axis} from index {first} on are right",
    "的形状是 {got}，应当是 {shape}：第 {axis} 个轴上从下标 {first} 开始的 {count} 个是正确的",
)
_SUM, _MEAN = Text("sum", "求和"), Text("mean", "取平均")
_LATE = Text("holds at each step what belongs to the step before", "每一步放的是前一步的值")
_EARLY = Text("holds at each step what belongs to the step after", "每一步放的是后一步的值")
_BACKWARD = Text("holds the right numbers from the last step to the first", "数值正确，但从最后一步排到了第一步")
_ORDER = Text("holds the right numbers in another order", "数值正确，但顺序不同")
_ROWS = Text("holds the right numbers in each row, in another order", "每一行的数值正确，但顺序不同")
_WHOLE = Text(
    "holds whole numbers, the right values cut off: an array of integers?",
    "只有整数，正确值的小数部分被截掉了：是整数数组吗？",
)
_DIGITS = Text(
    "is right to {digits} digits only: rounded, or computed in float32?",
    "只有 {digits} 位数字正确：被舍入了，还是用 float32 算的？",
)


def shape_pattern(expected: Array, found: Array, equal: Equal) -> Text | None:
    """Return what explains a result of the wrong shape, or None."""
    shapes = {"got": found.shape, "shape": expected.shape}
    if found.size == expected.size and equal(expected, found.reshape(expected.shape)):
        return _EXTENT.filled(**shapes)
    for axis in range(found.ndim):
        for name, value in ((_SUM, found.sum(axis=axis)), (_MEAN, found.mean(axis=axis))):
            if equal(expected, value):
                return _SUMMED.filled(**shapes, sum=name, axis=axis)
    if (order := _axes(expected, found, equal)) is not None:
        return _TURNED_TOO.filled(**shapes) if found.ndim == 2 else _AXES.filled(order=order)
    return _part(expected, found, equal)


def _axes(expected: Array, found: Array, equal: Equal) -> tuple[int, ...] | None:
    """Return the axes of the right result as they stand in the one found, or None."""
    orders = permutations(range(found.ndim)) if found.ndim == expected.ndim <= 4 else iter(())
    for order in orders:
        if list(order) != sorted(order) and equal(expected, np.transpose(found, np.argsort(order))):
            return order
    return None


def _part(expected: Array, found: Array, equal: Equal) -> Text | None:
    """Return which part is right of a result that is too long or too short along one axis."""
    if found.ndim != expected.ndim:
        return None
    uneven = [axis for axis in range(found.ndim) if found.shape[axis] != expected.shape[axis]]
    if len(uneven) != 1:
        return None
    axis, count = uneven[0], min(found.shape[uneven[0]], expected.shape[uneven[0]])
    for text, part in ((_START, slice(None, count)), (_END, slice(-count, None))):
        place = (slice(None),) * axis + (part,)
        if count and equal(expected[place], found[place]):
            return text.filled(got=found.shape, shape=expected.shape, count=count, axis=axis)
    for first in range(1, found.shape[axis] - count):
        if equal(expected, np.take(found, range(first, first + count), axis)):
            return _INSIDE.filled(got=found.shape, shape=expected.shape, count=count, axis=axis, first=first)
    return None


def value_pattern(expected: Array, found: Array, time_axis: int | None, equal: Equal) -> Text | None:
    """Return what explains a result of the right shape with wrong numbers, or None."""
    for text, value in _rearranged(expected, time_axis):
        if equal(value, found):
            return text
    if (order := _axes(expected, found, equal)) is not None:
        return _TURNED if expected.ndim == 2 else _AXES.filled(order=order)
    if expected.size > 1 and time_axis is not None:
        right, made = (np.moveaxis(part, time_axis, 0) for part in (expected, found))
        if len(right) > 2 and equal(right[:-1], made[1:]):
            return _LATE
        if len(right) > 2 and equal(right[1:], made[:-1]):
            return _EARLY
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    error = float(np.abs(found - expected).max(initial=0.0)) / scale
    return _DIGITS.filled(digits=int(-np.log10(error))) if error < 2e-4 else None


def _rearranged(expected: Array, time_axis: int | None) -> Iterator[tuple[Text, Array]]:
    """Yield what a wrong result may hold, each with its name."""
    if not np.array_equal(expected, np.trunc(expected)):
        yield _WHOLE, np.trunc(expected)
    if time_axis is not None and expected.shape[time_axis] > 1:
        yield _BACKWARD, np.flip(expected, time_axis)


def order_pattern(expected: Array, found: Array, equal: Equal) -> Text | None:
    """Return whether the right numbers stand in another order: in each row, or anywhere; of two values, many do."""
    if len(np.unique(expected)) < 3:
        return None
    if expected.ndim > 1 and expected.shape[-1] > 1 and equal(np.sort(expected, axis=-1), np.sort(found, axis=-1)):
        return _ROWS
    whole = expected.size > 1 and equal(np.sort(expected, axis=None), np.sort(found, axis=None))
    return _ORDER if whole else None


def swapped(expected: Sequence[Array], found: Sequence[Array], equal: Equal) -> tuple[int, int] | None:
    """Return two results that stand in each other's place, or None."""
    wrong = [i for i, (right, made) in enumerate(zip(expected, found, strict=True)) if not equal(right, made)]
    for i in wrong:
        for j in wrong:
            if i < j and equal(expected[i], found[j]) and equal(expected[j], found[i]):
                return i, j
    return None
