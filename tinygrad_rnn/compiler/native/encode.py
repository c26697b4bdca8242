"""Instructions of a plan as the records that the C library reads, and where its workers wait for each other.

A record holds numbers only: what to do, where each operand lies (memory and offset), sizes and steps. Workers share the
rows of a call: the streams of a batch, as a rule. As long as each of them reads only what it has written itself they go
on side by side through as many calls as there are; where one needs what another has written, or writes where another
still reads, they wait. This follows from the addresses alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plan import Buffer, Instruction, Plan, Slot

_NAMES = "add subtract multiply divide maximum minimum copy negative sqrt relu exp tanh sigmoid log"
_ELEMENTWISE = _NAMES.split()  # in the order of replay.c
_NUMBER = {name: number for number, name in enumerate(_ELEMENTWISE)}
_NUMBER["contiguous"] = _NUMBER["copy"]
_MATMUL, _SUM, _TAKE, _TAKE_BACK, _LOSS, _MEAN_NATS = range(len(_ELEMENTWISE), len(_ELEMENTWISE) + 6)
_OPERANDS, _AXES = 4, 3
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
_WIDE = 1 << 20  # bytes; a matrix above this does not stay in the cache of one core, so workers share its columns

RECORD = np.dtype(
    [
        ("op", "i4"),
        ("type", "i4"),
        ("split", "i4"),
        ("wait", "i4"),
        ("base", "i8", _OPERANDS),
        ("offset", "i8", _OPERANDS),
        ("n", "i8", 4),
        ("s", "i8", (_OPERANDS, _AXES)),
        ("x", "f8", _OPERANDS),
    ]
)
"""A call as source/call.h has it."""


@dataclass(frozen=True)
class Operand:
    """An operand of a record: a slot, its steps in elements as source/call.h wants them, or a number.

    `shared` says that a worker touches only its part of the slot, along the first of the steps.
    """

    slot: Slot | None
    steps: tuple[int, ...] = ()
    shared: bool = True
    number: float = 0.0

    @property
    def start(self) -> int:
        """Where the slot starts, in bytes from the start of its memory."""
        assert self.slot is not None
        return self.slot.offset + (self.slot.buffer.offset if self.slot.buffer.kind == "arena" else 0)

    def span(self, lo: int, hi: int, n: int) -> tuple[int, int]:
        """Return (first byte, byte behind the last) of rows lo to hi of n; of all of it if it is not shared."""
        assert self.slot is not None
        size = self.slot.dtype.itemsize
        ends = [stride * (length - 1) for length, stride in zip(self.slot.shape, self.slot.strides, strict=True)]
        low, high = sum(end for end in ends if end < 0), sum(end for end in ends if end > 0) + size
        step = self.steps[0] * size if self.shared else 0
        if step <= 0:
            return self.start + low, self.start + high
        return self.start + low + lo * step, self.start + high - (n - hi) * step


@dataclass(frozen=True)
class Record:
    """One call for the library, in Python; operands in the order result, A, B, C. `split` as in source/call.h."""

    op: int
    dtype: np.dtype[Any]
    operands: tuple[Operand, ...]
    n: tuple[int, ...]
    split: int = 1
    writes: tuple[int, ...] = (0,)


@dataclass
class Program:
    """A plan for the library: its records, in runs between instructions that Python does.

    Attributes:
        pieces: an array of `RECORD`s, or an instruction that the library does not know.
        buffers: what the numbers in `base` stand for; 0 is the arena, k is buffers[k - 1].
        lengths: for each piece the number of records of each of its instructions.
    """

    pieces: list[NDArray[np.void] | Instruction] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)


def encode(plan: Plan, workers: int) -> Program:
    """Return a plan as records for a number of workers."""
    program = Program()
    bases: dict[int, int] = {}

    def base(buffer: Buffer) -> int:
        if buffer.kind == "arena":
            return 0
        if id(buffer) not in bases:
            program.buffers.append(buffer)
            bases[id(buffer)] = len(program.buffers)
        return bases[id(buffer)]

    run: list[Record] = []
    lengths: list[int] = []

    def finish() -> None:
        if run:
            program.pieces.append(_packed(run, workers, base))
            program.lengths.append(list(lengths))
            run.clear()
            lengths.clear()

    for instruction in plan.instructions:
        records = _records(instruction)
        if records is None:
            finish()
            program.pieces.append(instruction)
            program.lengths.append([1])
        else:
            run += records
            lengths.append(len(records))
    finish()
    return program


# -- what workers touch ------------------------------------------------------------------------------------------------


class _Ranges:
    """A set of bytes, as ranges that neither touch nor overlap."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        first, last = bisect_left(self.stops, start), bisect_right(self.starts, stop)
        if first < last:
            start, stop = min(start, self.starts[first]), max(stop, self.stops[last - 1])
        self.starts[first:last] = [start]
        self.stops[first:last] = [stop]

    def meets(self, start: int, stop: int) -> bool:
        at = bisect_right(self.stops, start)
        return at < len(self.starts) and self.starts[at] < stop


class _Touched:
    """What each worker has read and written since all waited for each other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.clear()

    def clear(self) -> None:
        self.read: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]
        self.written: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]

    def must_wait(self, parts: Sequence[Sequence[tuple[int, int, int, bool]]]) -> bool:
        """Return whether a worker is about to touch what another has written, or to write what another has read."""
        for worker, spans in enumerate(parts):
            for other in range(self.workers):
                if other == worker:
                    continue
                for base, start, stop, writes in spans:
                    ranges = self.written[other].get(base)
                    if ranges is not None and ranges.meets(start, stop):
                        return True
                    ranges = self.read[other].get(base) if writes else None
                    if ranges is not None and ranges.meets(start, stop):
                        return True
        return False

    def add(self, parts: Sequence[Sequence[tuple[int, int, int, bool]]]) -> None:
        for worker, spans in enumerate(parts):
            for base, start, stop, writes in spans:
                sets = self.written if writes else self.read
                sets[worker].setdefault(base, _Ranges()).add(start, stop)


def _spans(record: Record, workers: int, base: Any) -> list[list[tuple[int, int, int, bool]]]:
    """Return for each worker (base, first byte, byte behind the last, whether it writes) of what a record touches."""
    found: list[list[tuple[int, int, int, bool]]] = [[] for _ in range(workers)]
    n = record.n[0]
    for worker in range(workers if record.split else 1):
        lo, hi = (n * worker // workers, n * (worker + 1) // workers) if record.split == 1 else (0, n)
        if lo == hi:
            continue
        for number, operand in enumerate(record.operands):
            if operand.slot is not None and 0 not in operand.slot.shape:
                start, stop = operand.span(lo, hi, n)
                found[worker].append((base(operand.slot.buffer), start, stop, number in record.writes))
    return found


def _packed(run: Sequence[Record], workers: int, base: Any) -> NDArray[np.void]:
    packed = np.zeros(len(run), RECORD)
    touched = _Touched(workers)
    rows = []
    for record in run:
        wait = 0
        if workers > 1:
            parts = _spans(record, workers, base)
            if touched.must_wait(parts):
                wait = 1
                touched.clear()
            touched.add(parts)
        bases, offsets, steps, numbers = [-1] * _OPERANDS, [0] * _OPERANDS, [[0] * _AXES] * _OPERANDS, [0.0] * _OPERANDS
        for number, operand in enumerate(record.operands):
            numbers[number] = operand.number
            if operand.slot is not None:
                buffer = operand.slot.buffer
                bases[number] = base(buffer)
                offsets[number] = operand.start
            steps[number] = [*operand.steps, 0, 0, 0][:_AXES]
        n = [*record.n, 1, 1, 1, 1][:4]
        rows.append((record.op, _TYPES[record.dtype], record.split, wait, bases, offsets, n, steps, numbers))
    packed[:] = rows
    return packed


# -- instructions ------------------------------------------------------------------------------------------------------


def _records(instruction: Instruction) -> list[Record] | None:
    """Return the records of an instruction, or None if the library does not know it."""
    name = instruction.operator.name
    if instruction.operator.key != name or instruction.outputs[0].dtype not in _TYPES:
        return None
    if name in _NUMBER:
        record = _elementwise(_NUMBER[name], instruction.outputs[0], instruction.inputs)
        return None if record is None else [record]
    maker = _MAKERS.get(name)
    return None if maker is None else maker(instruction)


def _elementwise(op: int, out: Slot, inputs: Sequence[Any]) -> Record | None:
    lengths = list(out.shape) or [1]
    steps = [_broadcast(out, lengths)]
    operands: list[Any] = [out]
    for part in inputs:
        if isinstance(part, Slot):
            if part.dtype != out.dtype:
                return None
            steps.append(_broadcast(part, lengths))
        elif isinstance(part, int | float) and not isinstance(part, bool):
            steps.append([0] * len(lengths))
        else:
            return None
        operands.append(part)
    if any(None in row for row in steps):
        return None
    lengths, steps = _merged(lengths, steps)  # type: ignore[arg-type]
    if len(lengths) > _AXES:
        return None
    made = [
        Operand(part, tuple(row)) if isinstance(part, Slot) else Operand(None, tuple(row), number=float(part))
        for part, row in zip(operands, steps, strict=True)
    ]
    return Record(op, out.dtype, tuple(made), tuple(lengths))


def _broadcast(slot: Slot, lengths: Sequence[int]) -> list[int | None]:
    """Return the steps of a slot in elements along the axes of the result; None where they are no whole numbers."""
    new = len(lengths) - len(slot.shape)
    steps: list[int | None] = [0] * new
    for length, stride in zip(slot.shape, slot.strides, strict=True):
        whole, rest = divmod(stride, slot.dtype.itemsize)
        steps.append(None if rest else 0 if length == 1 else whole)
    return steps


def _merged(lengths: list[int], steps: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Join axes that lie behind each other in every operand; the first longer than 1 stays: it is shared."""
    axes = [axis for axis, length in enumerate(lengths) if length != 1] or [0]
    found: list[int] = []
    for axis in axes:
        last = found[-1] if found else None
        if len(found) > 1 and all(row[last] == row[axis] * lengths[axis] for row in steps):
            lengths = [*lengths]
            lengths[axis] *= lengths[last]
            found[-1] = axis
        else:
            found.append(axis)
    return [lengths[axis] for axis in found], [[row[axis] for axis in found] for row in steps]


def _flat(slot: Slot, axes: int) -> tuple[list[int], list[int]] | None:
    """Return (lengths, steps) of a slot whose first `axes` axes are one and whose others are one, if it lies so."""
    size = slot.dtype.itemsize
    lengths, steps = [], []
    for part in (range(axes), range(axes, len(slot.shape))):
        length, step = 1, 1
        for axis in reversed(part):
            if slot.shape[axis] == 1:
                continue
            if slot.strides[axis] % size:
                return None
            here = slot.strides[axis] // size
            if length == 1:
                step = here
            elif here != step * length:
                return None
            length *= slot.shape[axis]
        lengths.append(length)
        steps.append(step)
    return lengths, steps


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
    records = [_product(*part) for part in parts]
    return None if any(record is None for record in records) else records  # type: ignore[return-value]


def _at(slot: Slot, index: int) -> Slot:
    offset = slot.offset + index * slot.strides[0]
    return Slot(slot.buffer, offset, slot.shape[1:], slot.strides[1:], slot.dtype)


def _product(a: Slot, b: Slot, out: Slot) -> Record | None:
    left, right = _flat(a, max(0, len(a.shape) - 1)), _flat(b, 1)
    result = _flat(out, len(out.shape) - (len(b.shape) == 2))
    if left is None or right is None or result is None:
        return None
    (M, K), (am, ak) = left
    (_, N), (bk, bn) = right
    if len(b.shape) == 1:
        N, bn = 1, 1
    cm, cn = result[1]
    if cn != 1 and N != 1:
        return None
    big = K * N * out.dtype.itemsize > _WIDE and M < 256
    operands = Operand(out, (cm, 1)), Operand(a, (am, ak)), Operand(b, (bk, bn), shared=False)
    return Record(_MATMUL, out.dtype, operands, (M, N, K), 2 if big or (M == 1 and N * K > _WIDE // 8) else 1)


def _sum(instruction: Instruction) -> list[Record] | None:
    (a,), out, axis = instruction.inputs, instruction.outputs[0], instruction.attrs["axis"]
    if not isinstance(a, Slot) or a.dtype != out.dtype or axis is None:
        return None
    axes = sorted(part % len(a.shape) for part in ((axis,) if isinstance(axis, int) else axis))
    if axes != list(range(len(axes))):
        return None
    rows, result = _flat(a, len(axes)), _flat(out, 0)
    if rows is None or result is None or rows[1][1] != 1 or result[1][1] != 1:
        return None
    (R, C), (step, _) = rows
    return [Record(_SUM, out.dtype, (Operand(out, (0, 1)), Operand(a, (step, 1))), (R, C), 2)]


def _ids(slot: Any) -> tuple[int, tuple[int, int]] | None:
    """Return (length of a row, steps from row to row and within one) of ids."""
    if not isinstance(slot, Slot) or slot.dtype != np.int64 or not 1 <= len(slot.shape) <= 2:
        return None
    steps = [stride // slot.dtype.itemsize for stride in slot.strides]
    return max(1, slot.shape[-1]), (steps[0] if len(steps) == 2 else 0, steps[-1])


def _take(instruction: Instruction) -> list[Record] | None:
    table, out, indices = instruction.inputs[0], instruction.outputs[0], instruction.attrs["indices"]
    ids = _ids(indices)
    if ids is None or instruction.attrs["axis"] != 0 or not isinstance(table, Slot) or table.dtype != out.dtype:
        return None
    rows, made = _flat(table, 1), _flat(out, len(indices.shape))
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, D), (step, _) = made
    operands = Operand(out, (step, 1)), Operand(table, (rows[1][0], 1), False), Operand(indices, ids[1], False)
    return [Record(_TAKE, out.dtype, operands, (R, D, ids[0], table.shape[0]))]


def _take_back(instruction: Instruction) -> list[Record] | None:
    gradient, out, indices = instruction.inputs[0], instruction.outputs[0], instruction.attrs["indices"]
    ids = _ids(indices)
    if ids is None or instruction.attrs["axis"] != 0 or not isinstance(gradient, Slot) or gradient.dtype != out.dtype:
        return None
    rows, made = _flat(gradient, len(indices.shape)), _flat(out, 0)
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, D), (step, _) = rows
    operands = Operand(out, shared=False), Operand(gradient, (step, 1)), Operand(indices, ids[1], False)
    return [Record(_TAKE_BACK, out.dtype, operands, (R, D, ids[0], out.shape[0]), 2)]


def _loss_and_gradient(instruction: Instruction) -> list[Record] | None:
    (logits, g), (loss, gradient) = instruction.inputs, instruction.outputs
    ids = _ids(instruction.attrs["targets"])
    if isinstance(g, Slot):
        g = None if g.buffer.constant is None else g.buffer.constant.item()
    if ids is None or g is None or not isinstance(logits, Slot) or logits.dtype != gradient.dtype:
        return None
    rows, made = _flat(logits, 1), _flat(gradient, 1)
    if rows is None or made is None or rows[1][1] != 1 or made[1][1] != 1:
        return None
    (R, V), ignored = rows[0], float(instruction.attrs["ignore_label"])
    nats = Slot(Buffer("scratch", 8 * R), 0, (R,), (8,), np.dtype(np.float64))
    targets = Operand(instruction.attrs["targets"], ids[1], False, ignored)
    parts = Operand(gradient, (made[1][0],)), Operand(logits, (rows[1][0],), number=g), targets, Operand(nats, (1,))
    mean = Operand(loss, shared=False), Operand(nats, shared=False), targets
    return [
        Record(_LOSS, logits.dtype, parts, (R, V, ids[0]), 1, (0, 3)),
        Record(_MEAN_NATS, logits.dtype, mean, (R, V, ids[0]), 0),
    ]


def _join(instruction: Instruction) -> list[Record] | None:
    """Copy the operands of a stack or a concatenation into its result."""
    out, axis = instruction.outputs[0], instruction.attrs["axis"] % len(instruction.outputs[0].shape)
    offset, records = out.offset, []
    for part in instruction.inputs:
        if not isinstance(part, Slot):
            return None
        if instruction.operator.name == "stack":
            strides, length = out.strides[:axis] + out.strides[axis + 1 :], 1
        else:
            strides, length = out.strides, part.shape[axis]
        place = Slot(out.buffer, offset, part.shape, strides, out.dtype)
        record = _elementwise(_NUMBER["copy"], place, [part])
        if record is None:
            return None
        records.append(record)
        offset += length * out.strides[axis]
    return records


_MAKERS: dict[str, Callable[[Instruction], list[Record] | None]] = {
    "matmul": _matmul,
    "sum": _sum,
    "take": _take,
    "take_back": _take_back,
    "loss_and_gradient": _loss_and_gradient,
    "stack": _join,
    "concatenate": _join,
}
