"""Records of calls that read ids: lookups, their gradients, and the cross-entropy."""

from __future__ import annotations

import numpy as np

from ..plans.instructions import Buffer, Instruction, Slot
from .numbers import NUMBER
from .record import Operand, Record, flat, is_whole


def _ids(slot: object) -> tuple[int, tuple[int, int]] | None:
    """Return (ids in a row, (row stride, stride within a row)) of int64 ids of at most two axes, else None."""
    if not isinstance(slot, Slot) or slot.dtype != np.int64 or not 1 <= len(slot.shape) <= 2:
        return None
    strides = [stride // slot.dtype.itemsize for stride in slot.strides]
    return max(1, slot.shape[-1]), (strides[0] if len(strides) == 2 else 0, strides[-1])


def take(instruction: Instruction) -> list[Record] | None:
    """Return the record of a lookup of rows: out = table[ids]; None, here and below, if the library cannot do it."""
    table, out, indices = instruction.inputs[0], instruction.outputs[0], instruction.attrs["indices"]
    ids = _ids(indices)
    if ids is None or instruction.attrs["axis"] != 0 or not isinstance(table, Slot) or table.dtype != out.dtype:
        return None
    rows, made = flat(table, 1), flat(out, len(indices.shape))
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, D), (stride, _) = made
    operands = Operand(out, (stride, 1)), Operand(table, (rows[1][0], 1), False), Operand(indices, ids[1], False)
    return [Record(NUMBER["take"], out.dtype, operands, (R, D, ids[0], table.shape[0]))]


def take_back(instruction: Instruction) -> list[Record] | None:
    """Return the record of the gradient of a lookup as an array of the shape of the table."""
    gradient, out, indices = instruction.inputs[0], instruction.outputs[0], instruction.attrs["indices"]
    ids = _ids(indices)
    if ids is None or instruction.attrs["axis"] != 0 or not isinstance(gradient, Slot) or gradient.dtype != out.dtype:
        return None
    rows, made = flat(gradient, len(indices.shape)), flat(out, 0)
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, D), (stride, _) = rows
    operands = Operand(out, shared=False), Operand(gradient, (stride, 1)), Operand(indices, ids[1], False)
    return [Record(NUMBER["take_back"], out.dtype, operands, (R, D, ids[0], out.shape[0]), 2)]


def equal_rows(instruction: Instruction) -> list[Record] | None:
    """Return the records of the gradient of a lookup as rows and values: find equal ids, then add up their rows."""
    gradient, (rows, places), indices = instruction.inputs[0], instruction.outputs, instruction.attrs["indices"]
    ids = _ids(indices)
    if ids is None or not isinstance(gradient, Slot) or gradient.dtype != rows.dtype:
        return None
    read, made = flat(gradient, len(indices.shape)), flat(rows, 1)
    if read is None or made is None or read[1][1] != 1 or made[1][1] != 1 or not is_whole(places, places.shape[0]):
        return None
    (R, D), (stride, _) = read
    table = 2 * R + 1  # entries of a hash table that is at most half full
    scratch = Buffer("scratch", 8 * (table + R))
    found = Slot(scratch, 0, (table + R,), (8,), np.dtype(np.int64))
    first = Slot(scratch, 8 * table, (R,), (8,), np.dtype(np.int64))
    equal = Operand(places, (1,), False), Operand(found, (1,), False), Operand(indices, ids[1], False)
    added = Operand(rows, (made[1][0], 1), False), Operand(gradient, (stride, 1), False), Operand(first, (1,), False)
    length = instruction.attrs["length"]
    return [
        Record(NUMBER["find_equal"], rows.dtype, equal, (R, table + R, ids[0], length), 0, (0, 1)),
        Record(NUMBER["add_equal"], rows.dtype, added, (R, D), 2),
    ]


def subtract_rows(instruction: Instruction) -> list[Record] | None:
    """Return the record that subtracts rows from the result in place, which must already hold the table."""
    (_, rows, places), (out,) = instruction.inputs, instruction.outputs
    made, less = flat(out, 1), flat(rows, 1)
    if made is None or less is None or made[1][1] != 1 or less[1][1] != 1 or not is_whole(places, places.shape[0]):
        return None
    (V, D), (stride, _) = made
    operands = Operand(out, (stride, 1), False), Operand(rows, (less[1][0], 1), False), Operand(places, (1,), False)
    return [Record(NUMBER["subtract_rows"], out.dtype, operands, (less[0][0], D, V), 2)]


def loss_and_gradient(instruction: Instruction) -> list[Record] | None:
    """Return the records of the cross-entropy: nats of each row and the gradient, then the mean of the nats."""
    (logits, g), (loss, gradient) = instruction.inputs, instruction.outputs
    ids = _ids(instruction.attrs["targets"])
    if isinstance(g, Slot):
        g = None if g.buffer.constant is None else g.buffer.constant.item()
    if ids is None or g is None or not isinstance(logits, Slot):
        return None
    if logits.dtype != gradient.dtype or len(logits.shape) != 2:
        return None
    rows, made = flat(logits, 1), flat(gradient, 1)
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, V), ignored = rows[0], float(instruction.attrs["ignore_label"])
    if ignored != instruction.attrs["ignore_label"] or abs(ignored) >= 2.0**63:
        return None
    nats = Slot(Buffer("scratch", 8 * R), 0, (R,), (8,), np.dtype(np.float64))
    targets = Operand(instruction.attrs["targets"], ids[1], False, ignored)
    parts = Operand(gradient, (made[1][0],)), Operand(logits, (rows[1][0],), number=g), targets, Operand(nats, (1,))
    mean = Operand(loss, shared=False), Operand(nats, shared=False), targets
    return [
        Record(NUMBER["loss_and_gradient"], logits.dtype, parts, (R, V, ids[0]), 1, (0, 3)),
        Record(NUMBER["mean_nats"], logits.dtype, mean, (R, V, ids[0]), 0),
    ]
