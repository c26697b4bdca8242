"""A plan as the records that the C library reads.

Workers split the rows of a call: the sequences of a batch, as a rule. As long as each of them reads only what it has
written itself they run on without synchronization. There is a barrier where one needs what another has written, or
writes where another still reads; this follows from the addresses alone.

A loop is a record, followed by the records of its body. If the body has calls that only Python can do, the records
between these are replayed separately, and Python runs the loop.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..plans.instructions import Buffer, Instruction, Loop
from ..plans.plan import Plan
from .addends import added
from .chains import Kernel, chained
from .extents import check_extents
from .numbers import NUMBER
from .record import AXES, TYPES, Record
from .records import records_of
from .sharing import Span, Touched, touched_after, touched_before, waits_within
from .vectors import IN_LINES, border, matrices, note_matrices, share_vectors

_OPERANDS = 4
_UNWRITTEN = ("input", "constant")  # kinds of read-only buffers, which need no barriers
_ALL_WELL = 2  # `wait` of a call that is done only if no id was out of range, as in source/record.h

RECORD = np.dtype(
    [
        ("op", "i4"),
        ("type", "i4"),
        ("split", "i4"),
        ("wait", "i4"),
        ("base", "i8", _OPERANDS),
        ("offset", "i8", _OPERANDS),
        ("step_stride", "i8", _OPERANDS),
        ("n", "i8", 4),
        ("s", "i8", (_OPERANDS, AXES)),
        ("x", "f8", _OPERANDS),
    ]
)
"""The layout of a record in source/record.h."""

# The same layout: packing bytes takes a third of the time of assigning to an array of RECORD.
_ROW = struct.Struct(f"=4i{_OPERANDS * (3 + AXES) + 4}q{_OPERANDS}d")


@dataclass(frozen=True)
class Records:
    """Records that one call of the library replays.

    Attributes:
        array: the records, of dtype `RECORD`.
        heads: for each kernel (row of its first record, numbers of the instructions of the plan that it does).
        room: number of records of the longest body of a loop among them.
        extents: for each record, (first byte, byte after the last) of its buffer that each operand reaches.
    """

    array: NDArray[np.void]
    heads: list[tuple[int, tuple[int, ...]]]
    room: int = 0
    extents: list[list[tuple[int, int]]] = field(default_factory=list)


@dataclass(frozen=True)
class Repeated:
    """A loop that Python runs, from the last step to the first if `reverse`.

    Its pieces are done at each step: records, and numbers of instructions that Python does.
    """

    pieces: list[Records | int]
    steps: int
    reverse: bool

    def order(self) -> range:
        """Return the steps in the order of execution."""
        return range(self.steps)[:: -1 if self.reverse else 1]


Piece = Records | int | Repeated


@dataclass
class Program:
    """A plan, encoded.

    Attributes:
        pieces: records, and between them numbers of instructions that Python does, and loops that it runs.
        buffers: number k in the field `base` of a record is buffers[k - 1]; 0 is the arena.
        apart: whether each buffer of the arena has a number of its own: such a program cannot be replayed.
    """

    pieces: list[Piece] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    apart: bool = False

    def base(self, buffer: Buffer) -> int:
        """Return the number of a buffer, a new one if it has none yet."""
        if buffer.kind == "arena" and not self.apart:
            return 0
        if id(buffer) not in self._bases:
            self.buffers.append(buffer)
            self._bases[id(buffer)] = len(self.buffers)
        return self._bases[id(buffer)]

    def __post_init__(self) -> None:
        self._bases = {id(buffer): number for number, buffer in enumerate(self.buffers, 1)}


@dataclass(frozen=True)
class _Body:
    """A loop that the library runs."""

    kernels: list[Kernel]
    loop: Loop


class _Stop:
    """A mark: the next kernel runs only if no id was out of range. The first of a piece does anyway: failures raise."""


def encode(plan: Plan, workers: int, alone: bool = False, apart: bool = False) -> Program:
    """Encode a plan for a number of workers; `alone` as in `records_of`, `apart` in `Program`."""
    program = Program(apart=apart)
    pending: list[Kernel | _Body | _Stop] = []

    def end_run() -> None:
        if any(not isinstance(item, _Stop) for item in pending):
            program.pieces.append(_records(pending, workers, program.base))
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
            pieces = [run if isinstance(run, int) else _records(run, workers, program.base, loop) for run in runs]
            program.pieces.append(Repeated(pieces, loop.steps, loop.reverse))
    end_run()
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


def _records(items: Sequence[Kernel | _Body | _Stop], workers: int, base: Base, loop: Loop | None = None) -> Records:
    """Return items as records with their barriers; `loop` if they are part of a body and Python runs the loop."""
    touched, rows = Touched(workers), _Rows(base)
    if loop is not None:
        kernels = [item for item in items if isinstance(item, Kernel)]
        parts = [_spans(kernel, workers, base, loop) for kernel in kernels]
        rows.add_all(kernels, waits_within(parts, loop.steps, around=False), loop.steps)
        return rows.made()
    stops = False
    for item in items:
        if isinstance(item, _Stop):
            stops = True
            continue
        if isinstance(item, _Body):
            rows.add_loop(item, workers, touched)
            continue
        wait = int(stops) * _ALL_WELL
        if workers > 1:
            spans = _spans(item, workers, base)
            wait = wait or int(touched.must_wait(spans))
            if wait:
                touched.clear()
            touched.add(spans)
        rows.add_all([item], [wait], 1)
        stops = False
    return rows.made()


class _Rows:
    """Records that are being encoded."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._rows: list[tuple[float, ...]] = []
        self._extents: list[list[tuple[int, int]]] = []
        self._heads: list[tuple[int, tuple[int, ...]]] = []
        self._room = 0

    def add_all(self, kernels: Iterable[Kernel], waits: Iterable[int], steps: int) -> None:
        """Append kernels, with `wait` of source/record.h for each; `steps` of the loop around them."""
        for kernel, wait in zip(kernels, waits, strict=True):
            self._heads.append((len(self._rows), kernel.instructions))
            first = kernel.records[0]
            if len(kernel.records) > 1:
                size = math.prod(first.n)
                chain = Record(NUMBER["chain"], first.dtype, (), (size, len(kernel.records)))
                self._add(chain, wait, 1)
                wait = 0
            for record in kernel.records:
                self._add(record, wait, steps)

    def _add(self, record: Record, wait: int, steps: int) -> None:
        self._extents.append(check_extents(record, steps))
        self._rows.append(_row(record, wait, self._base))

    def add_loop(self, body: _Body, workers: int, touched: Touched) -> None:
        """Append a loop; `touched` has what workers accessed before it, and gets what they access in it."""
        kernels, loop, wait = body.kernels, body.loop, False
        waits = [False] * len(kernels)
        if workers > 1:
            spans = [_spans(kernel, workers, self._base, loop) for kernel in kernels]
            waits = waits_within(spans, loop.steps)
            ahead = [_spans(kernel, workers, self._base, loop) for kernel in matrices(kernels)]
            before = touched_before([*ahead, *spans], [False] * len(ahead) + waits, loop.steps)
            wait = touched.must_wait(before)
            if wait or any(waits):
                touched.clear()
            touched.add(touched_after(spans, waits, loop.steps))
        at = len(self._rows)
        self._rows.append(())
        self._extents.append([])
        self.add_all(kernels, waits, loop.steps)
        size = len(self._rows) - at - 1
        head = Record(NUMBER["loop"], kernels[0].records[0].dtype, (), (loop.steps, size, int(loop.reverse)))
        self._rows[at] = _row(head, wait, self._base)
        self._room = max(self._room, size)

    def made(self) -> Records:
        """Return the records."""
        packed = bytearray().join([_ROW.pack(*row) for row in self._rows])
        return Records(np.frombuffer(packed, RECORD), self._heads, self._room, self._extents)


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


_ZEROS = (0,) * (_OPERANDS * AXES)


def _spans(kernel: Kernel, workers: int, base: Base, loop: Loop | None = None) -> list[list[Span]]:
    """Return the spans that each worker accesses in a kernel; in a loop, at the first iteration."""
    found: list[list[Span]] = [[] for _ in range(workers)]
    for record in kernel.records:
        n = record.n[0] if len(kernel.records) == 1 else math.prod(record.n)
        if record.split in (1, IN_LINES):
            ends = [border(record, n, worker, workers) for worker in range(workers + 1)]
            rows = [(worker, lo, hi) for worker, (lo, hi) in enumerate(pairwise(ends)) if lo != hi]
        else:
            rows = [(worker, 0, n) for worker in range(workers if record.split else 1)]
        for number, operand in enumerate(record.operands):  # also for n = 0: zeros may be written
            slot = operand.slot
            if slot is None or operand.block is not None or 0 in slot.shape or slot.buffer.kind in _UNWRITTEN:
                continue
            memory, writes, (start, stop, by) = base(slot.buffer), number in record.writes, operand.span()
            step_stride = slot.step_stride if loop is not None else 0
            if loop is not None and loop.reverse:
                way, step_stride = (loop.steps - 1) * step_stride, -step_stride
                start, stop = start + way, stop + way
            for worker, lo, hi in rows:
                found[worker].append((memory, start + lo * by, stop - (n - hi) * by, writes, step_stride))
    return found
