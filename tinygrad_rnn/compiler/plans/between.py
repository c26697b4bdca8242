"""The plan for a third recording, from those of two that differ from it in numbers alone.

The plans are gone through side by side. A number is a + p / q of the way from a to b. A constant, or a floating point
number, is recognized among what was recorded, and taken from the third recording; one that a pass has folded is folded
again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn, TypeVar, cast

import numpy as np

from ...engine.tape import Array
from ..ir.arrays import Shape
from ..ir.graph import Attrs, Operator, Value
from .arena import place_buffers
from .instructions import Buffer, Instruction, Loop, Slot
from .plan import Plan
from .skeleton import Skeleton, is_number

T = TypeVar("T")


class UnknownError(Exception):
    """Something in the third plan does not follow from the two others."""


def _unknown() -> NoReturn:
    raise UnknownError


class Between:
    """Makes the plan; one use.

    Args:
        first, second: recordings of the same form, with plans.
        third: the one that a plan is wanted for.
        p, q: its numbers are those of the first and p / q of the way to the second.

    Raises:
        UnknownError: if its constants do not say what they stand for.
    """

    def __init__(self, first: Skeleton, second: Skeleton, third: Skeleton, p: int, q: int) -> None:
        self._p, self._q = p, q
        operators = zip(first.operators, second.operators, third.operators, strict=True)
        self._operators = {id(one): (other, new) for one, other, new in operators}
        self._slots: dict[int, tuple[Slot, Slot]] = {}  # by id of the first's: the second's, and the new one
        self._buffers: dict[int, tuple[Buffer, Buffer]] = {}
        self._taken: set[int] = set()  # the second's buffers
        self._recorded: dict[object, tuple[object, float | Array]] = {}  # reals and arrays by what they are in the two
        for row in zip(first.reals, second.reals, third.reals, strict=True):
            self._know(row)
        for arrays in zip(first.arrays, second.arrays, third.arrays, strict=True):
            self._know(arrays)

    def _know(self, row: tuple[float | Array, float | Array, float | Array]) -> None:
        """Take note of what a real, or an array, is in the three recordings."""
        one, other, new = map(_key, row)
        # Passes look for zeros and ones, and for what is equal: so it must be for this length, too.
        known, _ = self._recorded.setdefault((one, other), (new, row[2]))
        if known != new or one == other != new or (one != other and len(set(map(_sort, row))) > 1):
            _unknown()

    def plan(self, one: Plan, other: Plan) -> Plan:
        """Return the plan, with an arena of its own.

        Raises:
            UnknownError: if the two plans do not say what it is.
        """
        if len(one.instructions) != len(other.instructions) or one.last != other.last:
            _unknown()
        instructions = [self._turn(*pair) for pair in zip(one.instructions, other.instructions, strict=True)]
        inputs, outputs = self._part(one.inputs, other.inputs), self._part(one.outputs, other.outputs)
        size = place_buffers(new for _, new in self._buffers.values())
        return Plan(instructions, inputs, outputs, size, one.passes, one.last)

    def _turn(self, one: Instruction | Loop, other: Instruction | Loop) -> Instruction | Loop:
        if isinstance(one, Instruction) and isinstance(other, Instruction):
            return self._instruction(one, other)
        if not isinstance(one, Loop) or not isinstance(other, Loop) or one.reverse != other.reverse:
            _unknown()
        if len(one.instructions) != len(other.instructions):
            _unknown()
        pairs = zip(one.instructions, other.instructions, strict=True)
        body = tuple([self._instruction(*pair) for pair in pairs])
        return Loop(body, self._number(one.steps, other.steps), one.reverse)

    def _instruction(self, one: Instruction, other: Instruction) -> Instruction:
        operator = self._operator(one.operator, other.operator)
        if len(one.inputs) != len(other.inputs) or len(one.outputs) != len(other.outputs):
            _unknown()
        inputs = tuple([self._part(*pair) for pair in zip(one.inputs, other.inputs, strict=True)])
        outputs = tuple([self._slot(*pair) for pair in zip(one.outputs, other.outputs, strict=True)])
        attrs = self._attrs(one.attrs, other.attrs) if one.attrs or other.attrs else {}
        return Instruction(operator, inputs, outputs, attrs, one.step)

    def _operator(self, one: Operator, other: Operator) -> Operator:
        """Return an operator: of those that the recordings brought, the third's."""
        if id(one) in self._operators:
            like, new = self._operators[id(one)]
            return new if like is other else _unknown()
        return one if one.name == other.name and one.key == other.key else _unknown()

    def _attrs(self, one: Attrs, other: Attrs) -> Attrs:
        if one.keys() != other.keys():
            _unknown()
        return {name: self._part(part, other[name]) for name, part in one.items()}

    def _number(self, one: int, other: int) -> int:
        return one if one == other else one + (other - one) * self._p // self._q

    def _part(self, one: T, other: T) -> T:
        """Return an operand or an attribute, or a nesting of them."""
        kind = type(one)
        if isinstance(one, Slot) and isinstance(other, Slot):
            return cast(T, self._slot(one, other))
        if kind is not type(other):
            _unknown()
        made: object = one
        if one is other:
            pass
        elif kind is tuple or kind is list:
            parts = self._parts(cast("Sequence[object]", one), cast("Sequence[object]", other))
            made = parts if kind is list else tuple(parts)
        elif is_number(one) and is_number(other):
            made = self._number(cast(int, one), cast(int, other))
        elif isinstance(one, slice):
            made = slice(*self._parts(_bounds(one), _bounds(cast(slice, other))))
        elif isinstance(one, Value):
            like = cast(Value, other)
            made = self._constant(one, like, one.constant, like.constant)
        elif isinstance(one, float | np.ndarray):
            made = self._known(one, cast("float | Array", other))
        elif one != other or repr(one) != repr(other):  # 0.0 is not -0.0
            _unknown()
        return cast(T, made)

    def _parts(self, one: Sequence[object], other: Sequence[object]) -> list[object]:
        if len(one) != len(other):
            _unknown()
        return [self._part(*pair) for pair in zip(one, other, strict=True)]

    # -- memory -------------------------------------------------------------------------------------------------------

    def _slot(self, one: Slot, other: Slot) -> Slot:
        found = self._slots.get(id(one))
        if found is not None:
            return found[1] if found[0] is other else _unknown()
        buffer = self._buffer(one.buffer, other.buffer)
        if one.dtype != other.dtype:
            _unknown()
        if one.shape == other.shape and one.strides == other.strides and (one.turn, one.offset) == (0, other.offset):
            shape, strides, turn = one.shape, one.strides, self._number(0, other.turn)
            new = (
                one if buffer is one.buffer and turn == 0 else Slot(buffer, one.offset, shape, strides, one.dtype, turn)
            )
        else:
            new = Slot(
                buffer,
                self._number(one.offset, other.offset),
                self._shape(one.shape, other.shape),
                self._lengths(one.strides, other.strides),
                one.dtype,
                self._number(one.turn, other.turn),
            )
        self._slots[id(one)] = other, new
        return new

    def _lengths(self, one: Shape, other: Shape) -> Shape:
        if one == other:
            return one
        return tuple([self._number(*pair) for pair in zip(one, other, strict=True)])

    def _shape(self, one: Shape, other: Shape) -> Shape:
        """Return a shape; that of an array with two axes that change does not change evenly with each."""
        if one == other:
            return one
        if len(one) != len(other) or sum(a != b for a, b in zip(one, other, strict=True)) > 1:
            _unknown()
        return self._lengths(one, other)

    def _buffer(self, one: Buffer, other: Buffer) -> Buffer:
        found = self._buffers.get(id(one))
        if found is not None:
            return found[1] if found[0] is other else _unknown()
        if (one.kind, one.index) != (other.kind, other.index) or id(other) in self._taken:
            _unknown()
        self._taken.add(id(other))
        nbytes, constant = self._number(one.nbytes, other.nbytes), None
        if one.constant is not None and other.constant is not None:
            constant = self._constant(one.value, other.value, _small(one), _small(other))
            constant = np.ascontiguousarray(constant)
        new = one  # the plans share what nobody writes to
        if one.kind == "arena" or constant is not None or nbytes != one.nbytes:
            new = Buffer(one.kind, nbytes, 0, constant, one.index, one.born, one.dies)
        self._buffers[id(one)] = other, new
        return new

    # -- constants ----------------------------------------------------------------------------------------------------

    def _constant(self, one: Value | None, other: Value | None, array: Array | None, second: Array | None) -> Array:
        """Return the array of a constant: as it was recorded, or computed anew as it was computed in advance."""
        if array is None or second is None:
            _unknown()
        if one is None or other is None or one.folded is None or other.folded is None:
            return cast(Array, self._known(array, second))
        (call, index), (again, _) = one.folded, other.folded
        operator = self._operator(call.operator, again.operator)
        inputs, attrs = self._parts(call.inputs, again.inputs), self._attrs(call.attrs, again.attrs)
        with np.errstate(all="ignore"):
            return np.array(operator.results(operator.compute(*inputs, **attrs))[index])

    def _known(self, one: float | Array, other: float | Array) -> float | Array:
        """Return what a real, or an array, that the two recordings had is in the third."""
        keys = _key(one), _key(other)
        if keys not in self._recorded:
            return one if keys[0] == keys[1] else _unknown()  # a pass has put it in, whatever the length
        new = self._recorded[keys][1]
        if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
            return new
        shape = self._lengths(one.shape, other.shape)  # others of the same bytes may have another one
        if math.prod(shape) != np.size(new):
            _unknown()
        return np.ascontiguousarray(new).reshape(shape)


def _bounds(part: slice) -> tuple[object, ...]:
    return part.start, part.stop, part.step


def _small(buffer: Buffer) -> Array | None:
    """Return the array of a constant, which may take less memory than the copy in one piece."""
    value = buffer.value
    return buffer.constant if value is None or value.constant is None else value.constant


def _sort(part: float | Array) -> str:
    """Return whether a float, or an array, is all zeros, all ones, or neither."""
    array = np.asarray(part)
    if not array.any():
        return "zeros"
    return "ones" if (array == 1).all() else "others"


def _key(part: float | Array) -> object:
    """Return what tells floats and constants apart: 0.0 from -0.0, and arrays by their bytes, whatever their shape."""
    if not isinstance(part, np.ndarray):
        return float.hex(part)
    if part.size and not any(part.strides):  # one element everywhere
        return part.dtype, part.size, part[(0,) * part.ndim].tobytes()
    return part.dtype, part.size, part.tobytes()
