"""A plan as the records that the C library reads.

A loop is a record, followed by the records of its body. If the body has calls that only Python can do, the records
between these are replayed separately, and Python runs the loop.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..plans.instructions import Buffer, Instruction, Loop
from ..plans.plan import Plan
from .addends import added
from .chains import Kernel, chained
from .extents import check_extents
from .numbers import NUMBER
from .program import ALL_WELL, OPERANDS, RECORD, Program, Records, Repeated
from .record import AXES, TYPES, Record
from .records import records_of
from .vectors import note_matrices, share_vectors
from .waits import place_waits

# The layout of RECORD: packing bytes takes a third of the time of assigning to an array of RECORD.
_ROW = struct.Struct(f"=4i{OPERANDS * (3 + AXES) + 4}q{OPERANDS}d")


@dataclass(frozen=True)
class _Body:
    """A loop that the library runs."""

    kernels: list[Kernel]
    loop: Loop


class _Stop:
    """A mark: the next kernel runs only if no id was out of range. The first of a piece does anyway: failures raise."""


def encode(plan: Plan, workers: int, alone: bool = False) -> Program:
    """Encode a plan for a number of workers; `alone` as in `records_of`."""
    program = Program()
    pending: list[Kernel | _Body | _Stop] = []

    def end_run() -> None:
        if any(not isinstance(item, _Stop) for item in pending):
            program.pieces.append(_records(pending, program.base))
        pending.clear()

    number = 0
    for instructions, loop, is_last in _parts(plan):
        if is_last:
            pending.append(_Stop())
        runs = list(_runs(instructions, number, loop.steps if loop else 1, alone))
        number += len(instructions)
        if loop is None:
            for run in runs:
                if isinstance(run, int):
                    end_run()
                    program.pieces.append(run)
                else:
                    pending += run
        elif len(runs) == 1 and not isinstance(runs[0], int):
            body = share_vectors(runs[0]) if workers > 1 else runs[0]
            pending.append(_Body(note_matrices(body, loop), loop))
        else:
            end_run()
            pieces = [run if isinstance(run, int) else _records(run, program.base, loop.steps) for run in runs]
            program.pieces.append(Repeated(pieces, loop.steps, loop.reverse))
    end_run()
    place_waits(program, workers)
    return program


def _parts(plan: Plan) -> Iterator[tuple[Sequence[Instruction], Loop | None, bool]]:
    """Yield instructions in order, the loop around them, and whether all before them must have succeeded."""
    plain: list[Instruction] = []
    is_last = False
    for number, part in enumerate(plan.instructions):
        if isinstance(part, Loop) or number == plan.last:
            yield plain, None, is_last
            plain, is_last = [], number == plan.last
        if isinstance(part, Loop):
            yield part.instructions, part, False
        else:
            plain.append(part)
    yield plain, None, is_last


def _runs(instructions: Sequence[Instruction], first: int, steps: int, alone: bool) -> Iterator[list[Kernel] | int]:
    """Yield runs of kernels, and between them numbers of instructions without records, counted from `first`."""
    run: list[Kernel] = []
    for number, instruction in enumerate(instructions, first):
        records = records_of(instruction, alone)
        if records is not None:
            run += [Kernel((record,), (number,)) for record in records]
            continue
        if run:
            yield list(chained(added(run), steps))
            run = []
        yield number
    if run:
        yield list(chained(added(run), steps))


Base = Callable[[Buffer], int]
"""Returns the number of a buffer."""


def _records(items: Sequence[Kernel | _Body | _Stop], base: Base, steps: int = 1) -> Records:
    """Return items as records; `steps` of the loop around them if Python runs it."""
    rows, stops = _Rows(base), False
    for item in items:
        if isinstance(item, _Stop):
            stops = True
        elif isinstance(item, _Body):
            rows.add_loop(item)
        else:
            rows.add(item, steps, int(stops) * ALL_WELL)
            stops = False
    return rows.made()


class _Rows:
    """Records that are being encoded."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._rows: list[tuple[float, ...]] = []
        self._extents: list[list[tuple[int, int]]] = []
        self._shares: list[list[tuple[int, bool]]] = []
        self._buffers: list[list[Buffer | None]] = []
        self._heads: list[tuple[int, tuple[int, ...]]] = []
        self._room = 0

    def add(self, kernel: Kernel, steps: int, wait: int = 0) -> None:
        """Append a kernel, with `wait` of source/record.h; `steps` of the loop around it."""
        self._heads.append((len(self._rows), kernel.instructions))
        first = kernel.records[0]
        if len(kernel.records) > 1:
            size = math.prod(first.n)
            self._add(Record(NUMBER["chain"], first.dtype, (), (size, len(kernel.records))), 1, wait)
            wait = 0
        for record in kernel.records:
            self._add(record, steps, wait)

    def _add(self, record: Record, steps: int, wait: int) -> None:
        extents = check_extents(record, steps)
        shares: list[tuple[int, bool]] = []
        buffers: list[Buffer | None] = []
        for number, operand in enumerate(record.operands):
            slot, size = operand.slot, 0
            if slot is not None:
                size, start, (low, high) = slot.dtype.itemsize, slot.buffer.offset, extents[number]
                extents[number] = (start + low, start + high) if high else (0, 0)
            shares.append((size if operand.shared else 0, number in record.writes))
            buffers.append(slot.buffer if slot is not None and operand.block is None else None)
        self._extents.append(extents)
        self._shares.append(shares)
        self._buffers.append(buffers)
        self._rows.append(_row(record, wait, self._base))

    def add_loop(self, body: _Body) -> None:
        """Append a loop."""
        kernels, loop, at = body.kernels, body.loop, len(self._rows)
        head = Record(NUMBER["loop"], kernels[0].records[0].dtype, (), (loop.steps, 0, int(loop.reverse)))
        self._add(head, 1, 0)
        for kernel in kernels:
            self.add(kernel, loop.steps)
        size = len(self._rows) - at - 1
        self._rows[at] = _row(replace(head, n=(loop.steps, size, int(loop.reverse))), 0, self._base)
        self._room = max(self._room, size)

    def made(self) -> Records:
        """Return the records."""
        packed = bytearray().join([_ROW.pack(*row) for row in self._rows])
        array = np.frombuffer(packed, RECORD)
        return Records(array, self._heads, self._room, self._extents, self._shares, self._buffers)


def _row(record: Record, wait: int, base: Base) -> tuple[float, ...]:
    bases, offsets, step_strides = [-1, -1, -1, -1], [0, 0, 0, 0], [0, 0, 0, 0]
    strides: list[int] = []
    numbers = [0.0, 0.0, 0.0, 0.0]
    for number, operand in enumerate(record.operands):
        numbers[number] = operand.number
        strides += operand.strides
        strides += _ZEROS[len(operand.strides) : AXES]
        if operand.block is not None:
            bases[number] = -2 - operand.block
        elif (slot := operand.slot) is not None:
            bases[number], offsets[number], step_strides[number] = base(slot.buffer), operand.start, slot.step_stride
    strides += _ZEROS[len(strides) :]
    n = (*record.n, 1, 1, 1, 1)[:4]
    return record.op, TYPES[record.dtype], record.split, wait, *bases, *offsets, *step_strides, *n, *strides, *numbers


_ZEROS = (0,) * (OPERANDS * AXES)
