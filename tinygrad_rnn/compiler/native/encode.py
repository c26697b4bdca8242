"""A plan as the table that the C library reads.

Workers share the rows of a call: the streams of a batch, as a rule. As long as each of them reads only what it has
written itself they go on side by side through as many calls as there are; where one needs what another has written, or
writes where another still reads, they wait for each other. This follows from the addresses alone.

Elementwise calls behind each other on the same large arrays (an optimizer's update) make a chain, which goes through
memory once: block by block, what only the chain reads stays in cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..elementwise import LOOPS
from ..plan import Buffer, Plan
from .extents import check_extents
from .records import AXES, CHAIN, TYPES, Operand, Record, is_whole, records_of
from .sharing import Span, Touched

_OPERANDS = 4
_LONG = 1 << 14  # elements; shorter arrays are in cache from call to call anyway
_BLOCKS = 16  # that a chain keeps in cache, at most; as in source/call.h

RECORD = np.dtype(
    [
        ("op", "i4"),
        ("type", "i4"),
        ("split", "i4"),
        ("wait", "i4"),
        ("base", "i8", _OPERANDS),
        ("offset", "i8", _OPERANDS),
        ("n", "i8", 4),
        ("s", "i8", (_OPERANDS, AXES)),
        ("x", "f8", _OPERANDS),
    ]
)
"""A call as source/call.h has it."""


@dataclass(frozen=True)
class Table:
    """Records that the library replays in one go.

    Attributes:
        records: an array of `RECORD`.
        heads: for each call (row of its record, numbers of the instructions of the plan that it does).
    """

    records: NDArray[np.void]
    heads: list[tuple[int, tuple[int, ...]]]


@dataclass
class Program:
    """A plan for the library.

    Attributes:
        pieces: tables, and between them numbers of instructions that Python does.
        buffers: what the numbers in `base` stand for; 0 is the arena, k is buffers[k - 1].
    """

    pieces: list[Table | int] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)


@dataclass(frozen=True)
class _Step:
    """A record, or several that make a chain, and the instructions they come from."""

    records: tuple[Record, ...]
    instructions: tuple[int, ...]


def encode(plan: Plan, workers: int) -> Program:
    """Return a plan as tables for a number of workers."""
    program = Program()
    last = {id(slot.buffer): n for n, instruction in enumerate(plan.instructions) for slot in instruction.slots()}
    last |= {id(slot.buffer): len(plan.instructions) for slot in plan.outputs}
    bases: dict[int, int] = {}

    def base(buffer: Buffer) -> int:
        if buffer.kind == "arena":
            return 0
        if id(buffer) not in bases:
            program.buffers.append(buffer)
            bases[id(buffer)] = len(program.buffers)
        return bases[id(buffer)]

    run: list[_Step] = []
    for number, instruction in enumerate([*plan.instructions, None]):
        records = None if instruction is None else records_of(instruction)
        if records is not None:
            run += [_Step((record,), (number,)) for record in records]
            continue
        if run:
            program.pieces.append(_table(_chained(run, last), workers, base))
            run = []
        if instruction is not None:
            program.pieces.append(number)
    return program


# -- chains ------------------------------------------------------------------------------------------------------------


def _chained(run: Sequence[_Step], last: dict[int, int]) -> Iterator[_Step]:
    """Join long elementwise records on arrays of one size, behind each other, to chains."""
    group: list[_Step] = []
    kind = None
    for step in run:
        found = _flat_size(step.records[0])
        if found is None or found != kind or not _goes_with(step.records[0], group):
            yield from _joined(group, last)
            group, kind = [], found
        group.append(step)
    yield from _joined(group, last)


def _joined(group: Sequence[_Step], last: dict[int, int]) -> Iterator[_Step]:
    if len(group) < 2:
        yield from group
        return
    chain = _Step(tuple(step.records[0] for step in group), tuple(step.instructions[0] for step in group))
    yield _Step(_in_cache(chain, last), chain.instructions)


def _goes_with(record: Record, group: Sequence[_Step]) -> bool:
    """Return whether a record can be done block by block with others.

    What one of them writes the others must touch at the same elements, or not at all.
    """
    ranges = [found for step in group for found in _ranges(step.records[0])]
    for memory, start, stop, written in _ranges(record):
        for other, begin, end, was_written in ranges:
            meets = other == memory and start < end and begin < stop
            if meets and (written or was_written) and (start, stop) != (begin, end):
                return False
    return True


def _ranges(record: Record) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (memory, first byte, byte behind the last, whether it is written) of the operands of a record."""
    for number, operand in enumerate(record.operands):
        if operand.slot is not None:
            buffer = operand.slot.buffer
            start = operand.start
            size = math.prod(operand.slot.shape) * operand.slot.dtype.itemsize
            yield -1 if buffer.kind == "arena" else id(buffer), start, start + size, number in record.writes


def _flat_size(record: Record) -> tuple[int, Any] | None:
    """Return (elements, dtype) of a long elementwise record whose operands lie in one piece, or are one number."""
    out = record.operands[0].slot
    assert out is not None
    size = math.prod(out.shape)
    if record.op >= len(LOOPS) or size < _LONG:
        return None
    whole = all(operand.slot is None or _is_one(operand) or is_whole(operand.slot, size) for operand in record.operands)
    return (size, record.dtype) if whole else None


def _is_one(operand: Operand) -> bool:
    return operand.slot is not None and math.prod(operand.slot.shape) == 1


def _in_cache(chain: _Step, last: dict[int, int]) -> tuple[Record, ...]:
    """Let what is written and read within a chain, and nowhere behind it, stay in cache."""
    blocks: dict[int, int] = {}
    found = []
    for record in chain.records:
        out = record.operands[0].slot
        inputs = [_flat(operand, blocks) for operand in record.operands[1:]]
        assert out is not None
        ends_here = out.buffer.kind == "arena" and last[id(out.buffer)] <= chain.instructions[-1]
        if ends_here and out.buffer.nbytes == math.prod(out.shape) * out.dtype.itemsize and len(blocks) < _BLOCKS:
            blocks.setdefault(id(out.buffer), len(blocks))
        found.append(replace(record, operands=(_flat(record.operands[0], blocks), *inputs)))
    return tuple(found)


def _flat(operand: Operand, blocks: dict[int, int]) -> Operand:
    if operand.slot is None or _is_one(operand):
        return operand
    return replace(operand, steps=(1,), block=blocks.get(id(operand.slot.buffer)))


# -- tables ------------------------------------------------------------------------------------------------------------


def _table(steps: Iterable[_Step], workers: int, base: Callable[[Buffer], int]) -> Table:
    touched = Touched(workers)
    rows: list[tuple[Any, ...]] = []
    heads: list[tuple[int, tuple[int, ...]]] = []
    for step in steps:
        wait = 0
        if workers > 1:
            parts = _spans(step, workers, base)
            if touched.must_wait(parts):
                wait = 1
                touched.clear()
            touched.add(parts)
        heads.append((len(rows), step.instructions))
        first = step.records[0]
        if len(step.records) > 1:
            size = math.prod(first.n)
            rows.append(_row(Record(CHAIN, first.dtype, (), (size, len(step.records))), wait, base))
            wait = 0
        rows += [_row(record, wait, base) for record in step.records]
    table = np.zeros(len(rows), RECORD)
    table[:] = rows
    return Table(table, heads)


def _row(record: Record, wait: int, base: Callable[[Buffer], int]) -> tuple[Any, ...]:
    check_extents(record)
    bases, offsets, steps, numbers = [-1] * _OPERANDS, [0] * _OPERANDS, [[0] * AXES] * _OPERANDS, [0.0] * _OPERANDS
    for number, operand in enumerate(record.operands):
        numbers[number] = operand.number
        steps[number] = [*operand.steps, 0, 0, 0][:AXES]
        if operand.block is not None:
            bases[number] = -2 - operand.block
        elif operand.slot is not None:
            bases[number], offsets[number] = base(operand.slot.buffer), operand.start
    n = [*record.n, 1, 1, 1, 1][:4]
    return record.op, TYPES[record.dtype], record.split, wait, bases, offsets, n, steps, numbers


def _spans(step: _Step, workers: int, base: Callable[[Buffer], int]) -> list[list[Span]]:
    """Return what each worker touches in a step."""
    found: list[list[Span]] = [[] for _ in range(workers)]
    for record in step.records:
        n = record.n[0] if len(step.records) == 1 else math.prod(record.n)
        for worker in range(workers if record.split else 1):
            lo, hi = (n * worker // workers, n * (worker + 1) // workers) if record.split == 1 else (0, n)
            if record.split == 1 and lo == hi:
                continue
            for number, operand in enumerate(record.operands):  # without rows, too, zeros may be written
                if operand.slot is not None and operand.block is None and 0 not in operand.slot.shape:
                    start, stop = operand.span(lo, hi, n)
                    found[worker].append((base(operand.slot.buffer), start, stop, number in record.writes))
    return found
