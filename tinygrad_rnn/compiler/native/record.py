"""What a record is: one call of the C library, in Python, and how arrays have to lie for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..ir.arrays import DType, Shape
from ..plans.instructions import Slot

AXES = 3
TYPES: dict[DType, int] = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
Layout = tuple[Shape, Shape, int]
"""Shape, strides in bytes, and bytes of an element."""


@dataclass(slots=True, eq=False)  # frozen, it would take ten times as long to make
class Operand:
    """An operand of a record: a slot, its steps in elements as source/record.h wants them, or a number.

    `shared` says that a worker touches only its part of the slot, along the first of the steps. `block` is the number
    of a block in cache that stands for the slot within a chain.
    """

    slot: Slot | None
    steps: Shape = ()
    shared: bool = True
    number: float = 0.0
    block: int | None = None

    @property
    def start(self) -> int:
        """Where the slot starts, in bytes from the start of its memory."""
        assert self.slot is not None
        return self.slot.offset + self.slot.buffer.offset

    def span(self) -> tuple[int, int, int]:
        """Return (first byte, byte after the last, bytes from row to row, 0 if each worker touches all of it)."""
        assert self.slot is not None
        start, (low, high) = self.start, self.slot.extent()
        step = self.steps[0] * self.slot.dtype.itemsize if self.shared else 0
        return start + low, start + high, max(0, step)


@dataclass(slots=True, eq=False)
class Record:
    """A record, in Python; operands in the order result, A, B, C. `split` as in source/record.h."""

    op: int
    dtype: DType
    operands: tuple[Operand, ...]
    n: Shape
    split: int = 1
    writes: Shape = (0,)


def flat(slot: Slot, axes: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return (lengths, steps) of a slot whose first `axes` axes are one and whose others are one, if it lies so."""
    layout = slot.shape, slot.strides, slot.dtype.itemsize
    first, second = _joined(layout, 0, axes), _joined(layout, axes, len(slot.shape))
    return None if first is None or second is None else ((first[0], second[0]), (first[1], second[1]))


@lru_cache(maxsize=1024)
def _joined(layout: Layout, start: int, stop: int) -> tuple[int, int] | None:
    """Return (length, step) of some axes as one, if they lie so."""
    shape, strides, size = layout
    length, step = 1, 1
    for axis in reversed(range(start, stop)):
        if shape[axis] == 1:
            continue
        if strides[axis] % size:
            return None
        here = strides[axis] // size
        if length == 1:
            step = here
        elif here != step * length:
            return None
        length *= shape[axis]
    return length, step


def is_whole(slot: Slot, size: int) -> bool:
    """Return whether a slot has `size` elements, without gaps, in C order."""
    step = slot.dtype.itemsize
    for length, stride in zip(reversed(slot.shape), reversed(slot.strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return math.prod(slot.shape) == size
