"""Chains: consecutive elementwise calls on large arrays, fused into one pass block by block.

So an optimizer's update goes through memory once, and intermediates that only the chain reads stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..ir.arrays import DType
from ..plans.instructions import Buffer
from .numbers import LAST_LOOP
from .record import Operand, Record, is_whole

_LONG = 1 << 14  # elements; shorter arrays stay in cache from call to call anyway
_BLOCKS = 16  # the most blocks of scratch memory of a chain, as in source/record.h


@dataclass(slots=True, eq=False)
class Kernel:
    """A record, or the records of a chain, and the numbers of the instructions that it does."""

    records: tuple[Record, ...]
    instructions: tuple[int, ...]


def chained(run: Sequence[Kernel], steps: int) -> Iterator[Kernel]:
    """Join consecutive long elementwise records of one size to chains; `steps` of the loop around them."""
    group: list[Kernel] = []
    kind = None
    for kernel in run:
        found = _flat_size(kernel.records[0])
        if found is None or found != kind or not _goes_with(kernel.records[0], group, steps):
            yield from _joined(group, steps)
            group, kind = [], found
        group.append(kernel)
    yield from _joined(group, steps)


def _joined(group: Sequence[Kernel], steps: int) -> Iterator[Kernel]:
    if len(group) < 2:
        yield from group
        return
    chain = Kernel(tuple(kernel.records[0] for kernel in group), tuple(kernel.instructions[0] for kernel in group))
    yield Kernel(_in_cache(chain, steps), chain.instructions)


def _goes_with(record: Record, group: Sequence[Kernel], steps: int) -> bool:
    """Return whether a record can join a chain.

    What one record writes, another must access at the same elements or not at all, at each step of a loop. Otherwise a
    block would read what an earlier or a later block writes.
    """
    places = [found for kernel in group for found in _places(kernel.records[0])]
    for memory, start, size, stride, written in _places(record):
        for other, start2, size2, stride2, was_written in places:
            if other != memory or not (written or was_written) or (start, size, stride) == (start2, size2, stride2):
                continue
            apart, way = start2 - start, (stride2 - stride) * (steps - 1)
            if apart + min(0, way) < size and apart + max(0, way) > -size2:
                return False
    return True


def _places(record: Record) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield (memory, first byte, size in bytes, stride from step to step, whether it is written) of each operand."""
    for number, operand in enumerate(record.operands):
        slot = operand.slot
        if slot is not None:
            memory = -1 if slot.buffer.kind == "arena" else id(slot.buffer)
            nbytes = math.prod(slot.shape) * slot.dtype.itemsize
            yield memory, operand.start, nbytes, slot.step_stride, number in record.writes


def _flat_size(record: Record) -> tuple[int, DType] | None:
    """Return (elements, dtype) of a long elementwise record whose operands are contiguous or scalars, else None."""
    if record.op > LAST_LOOP or (size := math.prod(record.n)) < _LONG:
        return None
    whole = all(operand.slot is None or _is_one(operand) or is_whole(operand.slot, size) for operand in record.operands)
    return (size, record.dtype) if whole else None


def _is_one(operand: Operand) -> bool:
    return operand.slot is not None and math.prod(operand.slot.shape) == 1


def _in_cache(chain: Kernel, steps: int) -> tuple[Record, ...]:
    """Return the records of a chain with blocks of scratch memory for the results that only the chain reads."""
    blocks: dict[int, int] = {}
    found = []
    for record in chain.records:
        out = record.operands[0].slot
        inputs = [_flat(operand, blocks) for operand in record.operands[1:]]
        assert out is not None
        whole = out.buffer.kind == "arena" and out.buffer.nbytes == math.prod(out.shape) * out.dtype.itemsize
        if whole and _ends_with(out.buffer, chain, steps) and len(blocks) < _BLOCKS:
            blocks.setdefault(id(out.buffer), len(blocks))
        operands = (_flat(record.operands[0], blocks), *inputs)
        found.append(Record(record.op, record.dtype, operands, record.n, record.split, record.writes))
    return tuple(found)


def _ends_with(buffer: Buffer, chain: Kernel, steps: int) -> bool:
    """Return whether nobody reads a buffer after a chain that writes all of it, at the next of the steps neither."""
    return 0 <= buffer.dies <= chain.instructions[-1] and (steps == 1 or buffer.born >= chain.instructions[0])


def _flat(operand: Operand, blocks: dict[int, int]) -> Operand:
    if operand.slot is None or _is_one(operand):
        return operand
    return Operand(operand.slot, (1,), operand.shared, operand.number, blocks.get(id(operand.slot.buffer)))
