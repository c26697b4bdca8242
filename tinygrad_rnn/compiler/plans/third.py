"""Parts of plans on a line: how the buffers, slots and calls of a third plan are made from those of the first.

Instructions are made when they are asked for: few are of a plan whose records are known, as those of another are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, TypeVar, overload

import numpy as np

from ...engine.tape import Array
from ..ir.graph import Operator
from .instructions import Buffer, Instruction, Loop, Slot

T = TypeVar("T")


@dataclass
class Third:
    """What the parts of a third plan are made from: its numbers, its recording, its buffers and slots."""

    numbers: list[int]
    operators: tuple[Operator, ...]
    constants: dict[object, float | Array]
    places: list[SlotOnLine]
    buffers: list[Buffer] = field(default_factory=list)
    slots: dict[int, Slot] = field(default_factory=dict)

    def slot(self, number: int) -> Slot:
        """Return a slot; it is made when it is asked for."""
        if number not in self.slots:
            self.slots[number] = _new_slot(self.places[number], self)
        return self.slots[number]


Make: TypeAlias = Callable[[Third], T]


class BufferOnLine(NamedTuple):
    """A buffer of the first plan; the place of its size among the numbers, and its constant, if it is made anew."""

    buffer: Buffer
    size: int | None
    constant: Make[Array] | None


class SlotOnLine(NamedTuple):
    """A slot of the first plan; if made anew, its buffer, and its numbers: offset, step_stride, shape, strides."""

    slot: Slot
    buffer: int
    at: int | None


class CallOnLine(NamedTuple):
    """An instruction of the first plan; its operands (numbers of slots, or how they are made), results, attributes."""

    instruction: Instruction
    operator: Make[Operator]
    inputs: tuple[int | Make[object], ...]
    outputs: tuple[int, ...]
    attrs: dict[str, Make[object]]


class LoopOnLine(NamedTuple):
    """A loop: its calls, the place of its number of steps, and its direction."""

    calls: tuple[CallOnLine, ...]
    steps: int
    reverse: bool


def new_buffer(memory: BufferOnLine, new: Third) -> Buffer:
    """Return a buffer of a third plan."""
    one, size, constant = memory
    if size is None:
        return one
    array = None if constant is None else np.ascontiguousarray(constant(new))
    return Buffer(one.kind, new.numbers[size], 0, array, one.index, one.born, one.dies)


def _new_slot(place: SlotOnLine, new: Third) -> Slot:
    one, buffer, at = place
    if at is None:
        return one
    numbers, ndim = new.numbers, len(one.shape)
    lengths = numbers[at + 2 : at + 2 + 2 * ndim]
    shape, strides = tuple(lengths[:ndim]), tuple(lengths[ndim:])
    return Slot(new.buffers[buffer], numbers[at], shape, strides, one.dtype, numbers[at + 1])


class Instructions(Sequence["Instruction | Loop"]):
    """The instructions of a plan on a line."""

    def __init__(self, parts: Sequence[CallOnLine | LoopOnLine], new: Third) -> None:
        self._parts, self._new = parts, new
        self._made: dict[int, Instruction | Loop] = {}

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, number: int) -> Instruction | Loop: ...
    @overload
    def __getitem__(self, number: slice) -> list[Instruction | Loop]: ...
    def __getitem__(self, number: int | slice) -> Instruction | Loop | list[Instruction | Loop]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        if number not in self._made:
            part, new = self._parts[number], self._new
            if isinstance(part, LoopOnLine):
                calls = tuple([_new_instruction(call, new) for call in part.calls])
                self._made[number] = Loop(calls, new.numbers[part.steps], part.reverse)
            else:
                self._made[number] = _new_instruction(part, new)
        return self._made[number]


def _new_instruction(call: CallOnLine, new: Third) -> Instruction:
    one, operator, inputs, outputs, attrs = call
    return Instruction(
        operator(new),
        tuple([new.slot(part) if isinstance(part, int) else part(new) for part in inputs]),
        tuple([new.slot(number) for number in outputs]),
        {name: part(new) for name, part in attrs.items()} if attrs else {},
        one.step,
    )
