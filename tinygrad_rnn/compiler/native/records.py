"""Records of the instructions of a plan; an instruction without one is done in Python.

A record holds the operation, where each operand lies, sizes and strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np

from ..ir.table import TRUTH
from ..plans.instructions import Instruction, Slot, places, strides_of, views_in
from .lookups import equal_rows, loss_and_gradient, subtract_rows, take, take_back
from .numbers import NAMES, NATIVE, NUMBER, SCALAR
from .record import AXES, TYPES, Layout, Operand, Record, flat, is_whole, joined

_BOOL = np.dtype(np.bool_)
_LONG = 1 << 12  # elements; splitting a shorter vector saves less than a barrier costs
FEW = 1 << 8  # elements; for more of them NumPy's loop is faster than a call of libm for each
_WIDE = 1 << 20  # bytes; a larger matrix does not stay in the cache of one core, so workers split its columns
_MANY = 256  # rows; with more of them reading the matrix from memory takes a small part of the time


def records_of(instruction: Instruction, alone: bool = False) -> list[Record] | None:
    """Return the records of an instruction, or None if the library does not know it.

    Args:
        instruction: of a plan.
        alone: whether there is no NumPy to fall back on, as in WebAssembly; otherwise None where NumPy is faster.
    """
    name = instruction.operator.name
    maker = _MAKERS.get(name)
    if instruction.operator.key != name or (maker is None and name not in NATIVE):
        return None
    for slot in (*instruction.inputs, *instruction.outputs, *instruction.attrs.values()):
        if isinstance(slot, Slot) and slot.step_stride % slot.dtype.itemsize:
            return None
    if maker is None:
        records = _all([_elementwise(name, instruction.outputs[0], instruction.inputs)])
    else:
        records = maker(instruction) if instruction.outputs[0].dtype in TYPES or name == "astype" else None
    if not alone and any(NAMES[one.op] in SCALAR and math.prod(one.n) > FEW for one in records or ()):
        return None
    return records


def _elementwise(name: str, out: Slot, inputs: Sequence[object]) -> Record | None:
    """Return the record of an elementwise operation; a Python number takes the dtype of the arrays."""
    parts = [*inputs[1:], inputs[0]] if name == "where" else list(inputs)
    dtypes = [part.dtype for part in parts[:2] if isinstance(part, Slot)] or [out.dtype]
    dtype = dtypes[0]
    if dtypes[-1] != dtype or dtype not in TYPES or out.dtype != (_BOOL if name in TRUTH else dtype):
        return None
    if name == "where" and not (isinstance(parts[2], Slot) and parts[2].dtype == _BOOL):
        return None
    layouts: list[Layout | None] = []
    numbers: list[float] = []
    for part in (out, *parts):
        if isinstance(part, Slot):
            layouts.append((part.shape, part.strides, part.dtype.itemsize))
            numbers.append(0.0)
        elif isinstance(part, int | float) and not isinstance(part, bool):
            layouts.append(None)
            numbers.append(float(part))
        else:
            return None
    found = _walk(out.shape, tuple(layouts))
    if found is None:
        return None
    lengths, strides = found
    operands = [
        Operand(part if isinstance(part, Slot) else None, row, number=number)
        for part, row, number in zip((out, *parts), strides, numbers, strict=True)
    ]
    rows = len(out.shape) > 1 and out.shape[0] > 1
    split = int(rows or math.prod(out.shape) >= _LONG)
    return Record(NUMBER[name], dtype, tuple(operands), lengths, split)


@lru_cache(maxsize=1024)
def _walk(
    shape: tuple[int, ...], layouts: tuple[Layout | None, ...]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] | None:
    """Return the lengths of the axes of an elementwise operation, and the strides of its operands in elements.

    None where a stride is not a whole number of elements, or there are too many axes. The layout of a number is None.
    """
    lengths = list(shape) or [1]
    strides = []
    for layout in layouts:
        found = [0] * len(lengths) if layout is None else _broadcast(layout, len(lengths))
        if found is None:
            return None
        strides.append(found)
    for split in (1, 0):
        lengths, strides = _merged(lengths, strides, split)
        if len(lengths) <= AXES:
            break
    return (tuple(lengths), tuple(map(tuple, strides))) if len(lengths) <= AXES else None


def _broadcast(layout: Layout, ndim: int) -> list[int] | None:
    """Return the strides of a slot in elements, broadcast to the axes of the result; None if one is not whole."""
    shape, strides, size = layout
    if any(stride % size for stride in strides):
        return None
    found = [0 if n == 1 else stride // size for n, stride in zip(shape, strides, strict=True)]
    return [0] * (ndim - len(found)) + found


def _merged(lengths: list[int], strides: list[list[int]], split: int) -> tuple[list[int], list[list[int]]]:
    """Merge adjacent axes that are contiguous in every operand, but not the first one longer than 1 if it is split."""
    axes = [axis for axis, length in enumerate(lengths) if length != 1] or [0]
    found: list[int] = []
    lengths = [*lengths]
    for axis in axes:
        if len(found) > split and all(row[found[-1]] == row[axis] * lengths[axis] for row in strides):
            lengths[axis] *= lengths[found.pop()]
        found.append(axis)
    return [lengths[axis] for axis in found], [[row[axis] for axis in found] for row in strides]


def _power(instruction: Instruction) -> list[Record] | None:
    """Return the record of a power; exponents 1, 2 and 0.5 become a copy, a product and a square root."""
    (x, exponent), out = instruction.inputs, instruction.outputs[0]
    simple: dict[object, tuple[str, list[object]]] = {1: ("copy", [x]), 2: ("multiply", [x, x]), 0.5: ("sqrt", [x])}
    name, inputs = simple.get(exponent, ("power", [x, exponent])) if isinstance(x, Slot) else ("power", [x, exponent])
    return _all([_elementwise(name, out, inputs)])


def _matmul(instruction: Instruction) -> list[Record] | None:
    a, b, out = instruction.inputs[0], instruction.inputs[1], instruction.outputs[0]
    if not all(isinstance(part, Slot) and part.dtype == out.dtype for part in (a, b)):
        return None
    if len(b.shape) == 3 and len(a.shape) == 3 and a.shape[0] == b.shape[0]:
        parts = [[_at(slot, number) for slot in (a, b, out)] for number in range(a.shape[0])]
    elif len(b.shape) <= 2:
        parts = [[a, b, out]]
    else:
        return None
    return _all(_product(*part) for part in parts)


def _at(slot: Slot, index: int) -> Slot:
    offset = slot.offset + index * slot.strides[0]
    return replace(slot, offset=offset, shape=slot.shape[1:], strides=slot.strides[1:])


def _product(a: Slot, b: Slot, out: Slot) -> Record | None:
    left, right = flat(a, max(0, len(a.shape) - 1)), flat(b, 1)
    result = flat(out, len(out.shape) - (len(b.shape) == 2))
    if left is None or right is None or result is None:
        return None
    (M, K), (am, ak) = left
    (_, N), (bk, bn) = right
    if len(b.shape) == 1:
        N, bn = 1, 1
    cm, cn = result[1]
    if cn != 1 and N != 1:
        return None
    operands = Operand(out, (cm, 1)), Operand(a, (am, ak)), Operand(b, (bk, bn), shared=False)
    wide = K * N * out.dtype.itemsize > _WIDE and M < _MANY
    return Record(NUMBER["matmul"], out.dtype, operands, (M, N, K), 2 if wide else 1 if M > 1 else 0)


def _sum(instruction: Instruction) -> list[Record] | None:
    """Return the record of a sum or a mean over axes that follow each other: the first, the last, or some between."""
    (a,), out, axis = instruction.inputs, instruction.outputs[0], instruction.attrs["axis"]
    if not isinstance(a, Slot) or a.dtype != out.dtype:
        return None
    ndim = len(a.shape)
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    summed = sorted(part % ndim for part in axes)
    last = summed == list(range(ndim - len(summed), ndim))
    if not last and summed[0] > 0:
        return _sum_between(instruction, a, summed)
    rows = flat(a, ndim - len(summed)) if last else flat(a, len(summed))
    if rows is None or rows[1][1] != 1 or not (last or summed == list(range(len(summed)))):
        return None
    (R, C), (stride, _) = rows
    count, kept = C if last else R, flat(out, 0)
    if count == 0 or kept is None or (kept[1][1] != 1 and not last):
        return None
    operand = Operand(a, (stride, 1), number=1 / count if instruction.operator.name == "mean" else 1.0)
    if last:
        return [Record(NUMBER["sum_along"], out.dtype, (Operand(out, (kept[1][1],)), operand), (R, C), int(R > 1))]
    return [Record(NUMBER["sum_rows"], out.dtype, (Operand(out, (0, 1)), operand), (R, C), 2)]


def _along_last(instruction: Instruction) -> list[Record] | None:
    """Return the record of a log-softmax or a log-sum-exp over the last axis."""
    (x,), out, name = instruction.inputs, instruction.outputs[0], instruction.operator.name
    if not isinstance(x, Slot) or x.dtype != out.dtype or not x.shape:
        return None
    last = len(x.shape) - 1
    read, made = flat(x, last), flat(out, last) if name == "log_softmax" else flat(out, len(out.shape))
    if instruction.attrs["axis"] not in (-1, last, (-1,), (last,)) or read is None or made is None or read[0][1] == 0:
        return None
    if (read[0][1] > 1 and read[1][1] != 1) or (made[0][1] > 1 and made[1][1] != 1):
        return None
    operands = Operand(out, (made[1][0],)), Operand(x, (read[1][0],))
    return [Record(NUMBER[name], out.dtype, operands, read[0], int(read[0][0] > 1))]


def _sum_between(instruction: Instruction, a: Slot, summed: list[int]) -> list[Record] | None:
    out, start, stop = instruction.outputs[0], summed[0], summed[-1] + 1
    after = stop if len(out.shape) == len(a.shape) else start  # where the last axes of the result begin
    read = [joined(a, *ends) for ends in ((0, start), (start, stop), (stop, len(a.shape)))]
    made = [joined(out, 0, start), joined(out, after, len(out.shape))]
    if summed != list(range(start, stop)) or None in read or None in made:
        return None
    (G, group), (R, row), (C, column) = cast("list[tuple[int, int]]", read)
    (_, step), (_, entry) = cast("list[tuple[int, int]]", made)
    if R == 0 or (C > 1 and (column, entry) != (1, 1)):
        return None
    operand = Operand(a, (group, row), number=1 / R if instruction.operator.name == "mean" else 1.0)
    return [Record(NUMBER["sum_middle"], out.dtype, (Operand(out, (step,)), operand), (G, C, R))]


def _astype(instruction: Instruction) -> list[Record] | None:
    """Return the record of a conversion between the types that the library computes with, or to or from int64."""
    x, out = instruction.inputs[0], instruction.outputs[0]
    if not isinstance(x, Slot) or x.dtype == out.dtype:
        return _copy(instruction)
    whole = np.dtype(np.int64)
    name = "from_whole" if x.dtype == whole else "to_whole" if out.dtype == whole else "convert"
    real = x.dtype if name == "to_whole" else out.dtype
    found = _walk(out.shape, tuple((slot.shape, slot.strides, slot.dtype.itemsize) for slot in (out, x)))
    if real not in TYPES or (name == "convert" and x.dtype not in TYPES) or found is None or len(found[0]) > 2:
        return None
    lengths, strides = found
    if len(lengths) == 1:  # a row, as it is seldom long enough to be split
        lengths, strides = (1, *lengths), tuple((0, *row) for row in strides)
    operands = tuple(Operand(slot, row) for slot, row in zip((out, x), strides, strict=True))
    return [Record(NUMBER[name], real, operands, lengths, int(lengths[0] > 1))]


def _join(instruction: Instruction) -> list[Record] | None:
    """Return the records that copy the operands of a stack or a concatenation into its result."""
    parts, (out,) = instruction.inputs, instruction.outputs
    if not all(isinstance(part, Slot) for part in parts):
        return None
    where = places(instruction.operator.name, instruction.attrs["axis"], parts, out)
    return _all(_elementwise("copy", place, [part]) for place, part in zip(where, parts, strict=True))


def _copy(instruction: Instruction) -> list[Record] | None:
    return _all([_elementwise("copy", instruction.outputs[0], instruction.inputs)])


def _reshape(instruction: Instruction) -> list[Record] | None:
    """Return the record of a reshape that is not a view: a copy to the result seen in the shape of the operand."""
    x, out = instruction.inputs[0], instruction.outputs[0]
    if not isinstance(x, Slot) or not is_whole(out, math.prod(x.shape)):
        return None
    same = replace(out, shape=x.shape, strides=strides_of(x.shape, x.dtype.itemsize))
    return _all([_elementwise("copy", same, [x])])


def _scatter(instruction: Instruction) -> list[Record] | None:
    """Return the records that write zeros, then an operand to the part that slices and integers select."""
    x, out, index = instruction.inputs[0], instruction.outputs[0], instruction.attrs["index"]
    parts = index if type(index) is tuple else (index,)
    if not isinstance(x, Slot) or not all(part is ... or isinstance(part, slice | int | None) for part in parts):
        return None
    found = views_in(out, lambda array: [array[index]])
    if found is None or found[0].shape != x.shape:
        return None
    return _all([_elementwise("copy", out, [0.0]), _elementwise("copy", found[0], [x])])


def _subtract_rows(instruction: Instruction) -> list[Record] | None:
    """Return the record of an update of rows, with a copy of the table first if the result lies elsewhere."""
    found, table, out = subtract_rows(instruction), instruction.inputs[0], instruction.outputs[0]
    return found if found is None or table == out else _all([_elementwise("copy", out, [table]), *found])


def _all(records: Iterable[Record | None]) -> list[Record] | None:
    """Return the records, or None if one of them is None."""
    found = []
    for record in records:
        if record is None:
            return None
        found.append(record)
    return found


_MAKERS: dict[str, Callable[[Instruction], list[Record] | None]] = {
    "power": _power,
    "matmul": _matmul,
    "sum": _sum,
    "mean": _sum,
    **dict.fromkeys(("log_softmax", "logsumexp"), _along_last),
    "contiguous": _copy,
    "reshape": _reshape,
    "scatter": _scatter,
    "take": take,
    "take_back": take_back,
    "equal_rows": equal_rows,
    "subtract_rows": _subtract_rows,
    "loss_and_gradient": loss_and_gradient,
    "astype": _astype,
    "stack": _join,
    "concatenate": _join,
}
