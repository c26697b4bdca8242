"""Chains: consecutive elementwise calls on the same large arrays, done block by block.

They go through memory once, as an optimizer's update should; what only the chain reads stays in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..ir.arrays import DType
from ..plans.instructions import Buffer, Loop
from ..plans.plan import Plan
from .numbers import LAST_LOOP
from .record import Operand, Record, is_whole

_LONG = 1 << 14  # elements; shorter arrays are in cache from call to call anyway
_BLOCKS = 16  # that a chain keeps in cache, at most; as in source/record.h


@dataclass(slots=True, eq=False)
class Step:
    """A record, or several that make a chain, and the instructions they come from."""

    records: tuple[Record, ...]
    instructions: tuple[int, ...]


class Uses:
    """Where buffers are used: found out for the first chain."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: dict[int, float] = {}
        # Of those that are used last in a loop: the loop and the first use there, and which are read there first.
        self._first: dict[int, tuple[Loop, int]] = {}
        self._read: set[int] = set()

    def _find(self) -> None:
        for number, (instruction, loop) in enumerate(self._plan.flat()):
            read = {id(slot.buffer) for slot in instruction.reads()}
            for key in read.union([id(slot.buffer) for slot in instruction.outputs]):
                self._last[key] = number
                if loop is None:
                    self._first.pop(key, None)
                elif key not in self._first or self._first[key][0] is not loop:
                    self._first[key] = loop, number
                    (self._read.add if key in read else self._read.discard)(key)
        self._last |= dict.fromkeys((id(slot.buffer) for slot in self._plan.outputs), math.inf)

    def end_with(self, buffer: Buffer, chain: Step) -> bool:
        """Return whether nobody reads a buffer after a chain that writes all of it, at the next step neither."""
        if not self._last:
            self._find()
        key = id(buffer)
        if self._last[key] > chain.instructions[-1]:
            return False
        return key not in self._first or (self._first[key][1] >= chain.instructions[0] and key not in self._read)


def chained(run: Sequence[Step], uses: Uses, steps: int) -> Iterator[Step]:
    """Join consecutive long elementwise records on arrays of one size to chains."""
    group: list[Step] = []
    kind = None
    for step in run:
        found = _flat_size(step.records[0])
        if found is None or found != kind or not _goes_with(step.records[0], group, steps):
            yield from _joined(group, uses)
            group, kind = [], found
        group.append(step)
    yield from _joined(group, uses)


def _joined(group: Sequence[Step], uses: Uses) -> Iterator[Step]:
    if len(group) < 2:
        yield from group
        return
    chain = Step(tuple(step.records[0] for step in group), tuple(step.instructions[0] for step in group))
    yield Step(_in_cache(chain, uses), chain.instructions)


def _goes_with(record: Record, group: Sequence[Step], steps: int) -> bool:
    """Return whether a record can be done block by block with others.

    What one of them writes the others must touch at the same elements, or not at all: in a loop, at each of its steps.
    """
    places = [found for step in group for found in _places(step.records[0])]
    for memory, start, size, turn, written in _places(record):
        for other, start2, size2, turn2, was_written in places:
            if other != memory or not (written or was_written) or (start, size, turn) == (start2, size2, turn2):
                continue
            apart, way = start2 - start, (turn2 - turn) * (steps - 1)
            if apart + min(0, way) < size and apart + max(0, way) > -size2:
                return False
    return True


def _places(record: Record) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield (memory, first byte, bytes, bytes further at each step, whether it is written) for each operand."""
    for number, operand in enumerate(record.operands):
        slot = operand.slot
        if slot is not None:
            memory = -1 if slot.buffer.kind == "arena" else id(slot.buffer)
            nbytes = math.prod(slot.shape) * slot.dtype.itemsize
            yield memory, operand.start, nbytes, slot.step_stride, number in record.writes


def _flat_size(record: Record) -> tuple[int, DType] | None:
    """Return (elements, dtype) of a long elementwise record whose operands lie in one piece, or are one number."""
    if record.op > LAST_LOOP or (size := math.prod(record.n)) < _LONG:
        return None
    whole = all(operand.slot is None or _is_one(operand) or is_whole(operand.slot, size) for operand in record.operands)
    return (size, record.dtype) if whole else None


def _is_one(operand: Operand) -> bool:
    return operand.slot is not None and math.prod(operand.slot.shape) == 1


def _in_cache(chain: Step, uses: Uses) -> tuple[Record, ...]:
    """Let what is written and read within a chain, and nowhere after it, stay in cache."""
    blocks: dict[int, int] = {}
    found = []
    for record in chain.records:
        out = record.operands[0].slot
        inputs = [_flat(operand, blocks) for operand in record.operands[1:]]
        assert out is not None
        whole = out.buffer.kind == "arena" and out.buffer.nbytes == math.prod(out.shape) * out.dtype.itemsize
        if whole and uses.end_with(out.buffer, chain) and len(blocks) < _BLOCKS:
            blocks.setdefault(id(out.buffer), len(blocks))
        operands = (_flat(record.operands[0], blocks), *inputs)
        found.append(Record(record.op, record.dtype, operands, record.n, record.split, record.writes))
    return tuple(found)


def _flat(operand: Operand, blocks: dict[int, int]) -> Operand:
    if operand.slot is None or _is_one(operand):
        return operand
    return Operand(operand.slot, (1,), operand.shared, operand.number, blocks.get(id(operand.slot.buffer)))
