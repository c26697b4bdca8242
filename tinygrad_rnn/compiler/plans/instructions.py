"""Instructions of a plan, and slots: where their operands and results lie in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...engine.tape import Array
from ..ir.arrays import DType, Shape
from ..ir.graph import Attrs, Operator, Value


@dataclass(slots=True, eq=False)
class Buffer:
    """Memory that some values share.

    Attributes:
        kind: "arena", "input", "constant", "output", or "donated": an input that a result is written over.
        nbytes: its size.
        offset: where it starts in the arena; 0 if it lies elsewhere.
        constant: the array of a constant.
        index: number of the input or output.
        born: number of the first instruction that uses it, or of the first of the loop whose steps all need it.
        dies: number of the last one, likewise; -1: there is none.
        value: the value of the graph that it was made for, if there is one.
    """

    kind: str
    nbytes: int
    offset: int = 0
    constant: Array | None = None
    index: int = 0
    born: int = -1
    dies: int = -1
    value: Value | None = None


@dataclass(slots=True, unsafe_hash=True)  # frozen, it would take ten times as long to make
class Slot:
    """Where an array lies: its buffer, and how it is laid out in there (offset and strides in bytes).

    It is not changed once it is made. Within a loop the array begins at offset + t * step_stride at step t.
    """

    buffer: Buffer
    offset: int
    shape: Shape
    strides: Shape
    dtype: DType
    step_stride: int = 0

    def extent(self) -> tuple[int, int]:
        """Return (first byte, byte after the last) of the elements, counted from the first element; (0, 0) for none."""
        return extent(self.shape, self.strides, self.dtype.itemsize)

    def distinct_bytes(self) -> int:
        """Return the bytes of its distinct elements: one that is broadcast counts once."""
        lengths = (length for length, stride in zip(self.shape, self.strides, strict=True) if stride)
        return 0 if 0 in self.shape else math.prod(lengths) * self.dtype.itemsize

    def at(self, t: int) -> Slot:
        """Return the slot at step t of a loop."""
        return replace(self, offset=self.offset + t * self.step_stride, step_stride=0) if self.step_stride else self

    def array(self, memory: Array | bytearray, start: int = 0) -> Array:
        """Return the array in memory (anything with the buffer interface); its buffer begins there at byte `start`."""
        if 0 in self.shape:  # NumPy refuses an offset at the end of the memory, and strides that do not fit
            return np.empty(self.shape, self.dtype)
        return np.ndarray(self.shape, self.dtype, memory, start + self.offset, self.strides)


@lru_cache(maxsize=1024)
def extent(shape: Shape, strides: Shape, itemsize: int) -> tuple[int, int]:
    """Return `Slot.extent` for a layout, from a cache."""
    low = high = 0
    for length, stride in zip(shape, strides, strict=True):
        if length == 0:
            return 0, 0
        if stride > 0:
            high += stride * (length - 1)
        else:
            low += stride * (length - 1)
    return low, high + itemsize


@dataclass(slots=True, eq=False)
class Instruction:
    """One call of a plan: an operator, where its operands and results lie, and its attributes. Data, not code."""

    operator: Operator
    inputs: tuple[Any, ...]
    outputs: tuple[Slot, ...]
    attrs: Attrs
    step: int | None

    def slots(self) -> list[Slot]:
        """Return the slots that it reads, then those that it writes."""
        return [*self.reads(), *self.outputs]

    def reads(self) -> list[Slot]:
        """Return the slots that it reads."""
        found: list[Slot] = []
        for part in (*self.inputs, *self.attrs.values()):
            if isinstance(part, Slot):
                found.append(part)
            elif isinstance(part, tuple):
                found += [inner for inner in part if isinstance(inner, Slot)]
        return found


@dataclass(frozen=True)
class Loop:
    """Instructions that are done at each step t = 0 .. steps - 1, or from the last step to the first."""

    instructions: tuple[Instruction, ...]
    steps: int
    reverse: bool


def views_in(base: Slot, function: Callable[[Array], Sequence[Array]]) -> list[Slot] | None:
    """Return the slots of the results of a function of the array in `base` if they are views of it, else None."""
    stand_in = base.array(_memory(base))
    parts = function(stand_in)
    start = stand_in.__array_interface__["data"][0] - base.offset
    if not all(np.may_share_memory(part, stand_in) for part in parts if part.size):
        return None
    return [
        Slot(
            base.buffer,
            part.__array_interface__["data"][0] - start if part.size else 0,
            part.shape,
            part.strides,
            part.dtype,
            base.step_stride,
        )
        for part in parts
    ]


def _memory(slot: Slot) -> Array:
    return np.empty(max(1, slot.buffer.nbytes), np.uint8)  # never touched: it takes no pages


def strides_of(shape: Shape, itemsize: int) -> Shape:
    """Return the strides in bytes of an array in C order."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= max(1, length)
    return tuple(reversed(strides))


def places(name: str, axis: int, parts: Sequence[Value | Slot], whole: Slot) -> list[Slot]:
    """Return the slot of each operand of a "stack" or a "concatenate" within the slot of its result."""
    axis %= len(whole.shape)
    stride, at, found = whole.strides[axis], whole.offset, []
    for part in parts:
        if name == "stack":
            strides, length = whole.strides[:axis] + whole.strides[axis + 1 :], 1
        else:
            strides, length = whole.strides, part.shape[axis]
        found.append(Slot(whole.buffer, at, part.shape, strides, whole.dtype, whole.step_stride))
        at += length * stride
    return found


COPY = Operator("copy", lambda x, /, *, out: np.copyto(out, x), True)
