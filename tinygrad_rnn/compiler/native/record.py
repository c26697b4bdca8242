"""Records in Python: calls of the C library, and the layouts of arrays that it reads."""

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
    """An operand of a record: an array or a number.

    Attributes:
        slot: where the array lies; None for a number.
        strides: `s` of source/record.h, in elements.
        shared: whether each worker touches only its part of the array, along the first stride; otherwise all of it.
        number: the number.
        block: within a chain, the block of scratch memory that takes the place of the slot.
    """

    slot: Slot | None
    strides: Shape = ()
    shared: bool = True
    number: float = 0.0
    block: int | None = None

    @property
    def start(self) -> int:
        """Where the slot starts, in bytes from the start of its memory."""
        assert self.slot is not None
        return self.slot.offset + self.slot.buffer.offset

    def span(self) -> tuple[int, int, int]:
        """Return (first byte, byte after the last, stride from row to row in bytes; 0 if it is not shared)."""
        assert self.slot is not None
        start, (low, high) = self.start, self.slot.extent()
        stride = self.strides[0] * self.slot.dtype.itemsize if self.shared else 0
        return start + low, start + high, max(0, stride)


@dataclass(slots=True, eq=False)
class Record:
    """One call of the C library, with fields of source/record.h; `writes`: numbers of the operands that it writes."""

    op: int
    dtype: DType
    operands: tuple[Operand, ...]
    n: Shape
    split: int = 1
    writes: Shape = (0,)


def flat(slot: Slot, axes: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return a slot as a matrix: ((rows, columns), (row stride, column stride)), strides in elements.

    The first `axes` axes are merged into the rows, the others into the columns; None if the layout does not allow it.
    """
    first, second = joined(slot, 0, axes), joined(slot, axes, len(slot.shape))
    return None if first is None or second is None else ((first[0], second[0]), (first[1], second[1]))


def joined(slot: Slot, start: int, stop: int) -> tuple[int, int] | None:
    """Return (length, stride in elements) of axes start .. stop - 1 merged into one, None if they cannot be."""
    return _joined((slot.shape, slot.strides, slot.dtype.itemsize), start, stop)


@lru_cache(maxsize=1024)
def _joined(layout: Layout, start: int, stop: int) -> tuple[int, int] | None:
    shape, strides, size = layout
    length, merged = 1, 1
    for axis in reversed(range(start, stop)):
        if shape[axis] == 1:
            continue
        if strides[axis] % size:
            return None
        here = strides[axis] // size
        if length == 1:
            merged = here
        elif here != merged * length:
            return None
        length *= shape[axis]
    return length, merged


def is_whole(slot: Slot, size: int) -> bool:
    """Return whether a slot has `size` elements and is contiguous, in C order."""
    expected = slot.dtype.itemsize
    for length, stride in zip(reversed(slot.shape), reversed(slot.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return math.prod(slot.shape) == size
