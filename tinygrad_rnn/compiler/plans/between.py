"""Interpolation between the plans of two recordings that differ in numbers alone, to get the plan of a third.

The two plans are compared once. If the numbers of the third recording are a + (b - a) * p / q, with a and b those of
the first two, then so are the numbers of its plan. Floats and constant arrays are matched with those that were
recorded, and taken from the third recording; a constant that a pass has folded is folded again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ...engine.tape import Array
from ..ir.graph import Attrs, Operator, Value
from .arena import place_buffers
from .explain import flops_of
from .instructions import Buffer, Instruction, Loop, Slot
from .plan import Plan
from .skeleton import Skeleton, is_number, key_of
from .third import BufferOnLine, CallOnLine, Instructions, LoopOnLine, Make, SlotOnLine, Third, new_buffer

T = TypeVar("T")
_LARGEST = 1 << 62  # bound of products, which must fit into 64 bits


class UnknownError(Exception):
    """The third plan does not follow from the two others."""


def _unknown() -> NoReturn:
    raise UnknownError


class Place(NamedTuple):
    """Where a plan lies on a line: the line, its own buffers, and the position: 0 is the first plan, 1 the second."""

    line: PlanLine
    buffers: list[Buffer]
    position: Fraction


class PlanLine:
    """The plans on the line through two given ones.

    Args:
        first, second: recordings of the same form.
        one, other: their plans.

    Attributes:
        one, other: their plans.
        programs: what an executor finds out about the programs of plans on it, by the number of workers.

    Raises:
        UnknownError: if the two plans do not show how they depend on the recordings.
    """

    def __init__(self, first: Skeleton, second: Skeleton, one: Plan, other: Plan) -> None:
        self._first, self._difference = first.numbers, second.numbers - first.numbers
        in_shape = np.zeros(len(first.numbers), bool)
        for start, stop in first.shapes:
            in_shape[start:stop] = True
            if np.count_nonzero(self._difference[start:stop]) > 1:  # sizes and offsets are not linear in the numbers
                _unknown()
        changing = np.flatnonzero(self._difference)
        self._lengths = changing[in_shape[changing]]
        if not len(changing) or (first.numbers[self._lengths] < 2).any() or (second.numbers[self._lengths] < 2).any():
            _unknown()
        self._changing = int(changing[0])
        operators = enumerate(zip(first.operators, second.operators, strict=True))
        self._operators = {id(mine): (theirs, number) for number, (mine, theirs) in operators}
        self._constants = _Constants(first, second)
        self._values: list[tuple[int, int]] = []  # the numbers of both plans
        self._buffers: dict[int, tuple[Buffer, int]] = {}  # by id of the first's: the second's, and its number
        self._slots: dict[int, tuple[Slot, int]] = {}
        self._taken: set[int] = set()  # ids of the second's buffers that are known
        self._memories: list[BufferOnLine] = []
        self._places: list[SlotOnLine] = []
        if one.last != other.last:
            _unknown()
        self.one, self.other = one, other
        self.programs: dict[int, object] = {}
        self._parts_of_plan: list[CallOnLine | LoopOnLine] = []
        self._eager: list[int] = []  # those of them that need a constant, which the third recording may not have
        self._needs_constant = False
        for pair in _pairs(one.instructions, other.instructions):
            self._parts_of_plan.append(self._turn(*pair))
            if self._needs_constant:
                self._eager.append(len(self._parts_of_plan) - 1)
                self._needs_constant = False
        self._inputs = [self._slot(*pair) for pair in _pairs(one.inputs, other.inputs)]
        self._outputs = [self._slot(*pair) for pair in _pairs(one.outputs, other.outputs)]
        values = np.array(self._values, np.int64).reshape(-1, 2)
        self._start, self._way = values[:, 0], values[:, 1] - values[:, 0]
        others = {id(other): number for other, number in self._buffers.values()}
        self._numbered = {key: number for key, (_, number) in self._buffers.items()} | others
        self._work = _work(one)
        self._more = _work(other) - self._work
        self._longest = int(np.abs(self._way).max(initial=0))

    def plan(self, third: Skeleton) -> Plan:
        """Return the plan of a recording, with the arena laid out for it.

        Raises:
            UnknownError: if its numbers are off the line or too large, its constants cannot be matched with those of
                the first two, or a changing axis has a length below 2, where arrays are laid out in another way.
        """
        far = third.numbers - self._first
        p, q = int(far[self._changing]), int(self._difference[self._changing])
        is_there = np.array_equal(far * q, self._difference * p) and (third.numbers[self._lengths] >= 2).all()
        if not is_there or abs(p) * self._longest >= _LARGEST:
            _unknown()
        numbers: list[int] = (self._start + self._way * p // q).tolist()
        new = Third(numbers, third.operators, self._constants.of(third), self._places)
        new.buffers.extend([new_buffer(memory, new) for memory in self._memories])
        inputs, outputs = ([new.slot(number) for number in group] for group in (self._inputs, self._outputs))
        instructions = Instructions(self._parts_of_plan, new)
        for number in self._eager:
            instructions[number]
        plan = Plan(instructions, inputs, outputs, place_buffers(new.buffers), self.one.passes, self.one.last)
        plan.place, plan.positions = Place(self, new.buffers, Fraction(p, q)), self.one.positions
        plan.work = float((self._work + self._more * p / q).prod(axis=1).sum())
        return plan

    def number(self, buffer: Buffer) -> int | None:
        """Return the number of a buffer of one of the two plans in `Place.buffers`; None if it is not of the plan."""
        return self._numbered.get(id(buffer))

    # -- comparing the two plans --------------------------------------------------------------------------------------

    def _turn(self, one: Instruction | Loop, other: Instruction | Loop) -> CallOnLine | LoopOnLine:
        if isinstance(one, Instruction) and isinstance(other, Instruction):
            return self._call(one, other)
        if not isinstance(one, Loop) or not isinstance(other, Loop) or one.reverse != other.reverse:
            _unknown()
        calls = [self._call(*pair) for pair in _pairs(one.instructions, other.instructions)]
        return LoopOnLine(tuple(calls), self._numbers((one.steps,), (other.steps,)), one.reverse)

    def _call(self, one: Instruction, other: Instruction) -> CallOnLine:
        operator = self._operator(one.operator, other.operator)
        inputs = [self._operand(*pair) for pair in _pairs(one.inputs, other.inputs)]
        outputs = [self._slot(*pair) for pair in _pairs(one.outputs, other.outputs)]
        return CallOnLine(one, operator, tuple(inputs), tuple(outputs), self._attrs(one.attrs, other.attrs))

    def _operator(self, one: Operator, other: Operator) -> Make[Operator]:
        """Return how an operator is made: one that is not the package's own is taken from the third recording."""
        if id(one) not in self._operators:
            return _always(one) if one.name == other.name and one.key == other.key else _unknown()
        like, number = self._operators[id(one)]
        return (lambda new: new.operators[number]) if like is other else _unknown()

    def _attrs(self, one: Attrs, other: Attrs) -> dict[str, Make[object]]:
        if one.keys() != other.keys():
            _unknown()
        return {name: self._part(part, other[name]) for name, part in one.items()}

    def _numbers(self, one: Sequence[int], other: Sequence[int]) -> int:
        """Append numbers of both plans; return the index of the first."""
        start = len(self._values)
        self._values += _pairs(one, other)
        return start

    def _operand(self, one: object, other: object) -> int | Make[object]:
        if isinstance(one, Slot) and isinstance(other, Slot):
            return self._slot(one, other)
        return self._part(one, other)

    def _part(self, one: object, other: object) -> Make[object]:
        """Return how an operand or an attribute is made, or a nesting of them."""
        kind = type(one)
        if kind is not type(other):
            _unknown()
        if one is other:
            return _always(one)
        if isinstance(one, Slot):
            number = self._slot(one, cast(Slot, other))
            return lambda new: new.slot(number)
        if kind is tuple or kind is list:
            parts = self._parts(cast("Sequence[object]", one), cast("Sequence[object]", other))
            return parts if kind is list else lambda new: tuple(parts(new))
        if is_number(one) and is_number(other):
            place = self._numbers((cast(int, one),), (cast(int, other),))
            return lambda new: new.numbers[place]
        if isinstance(one, slice):
            bounds = self._parts(_bounds(one), _bounds(cast(slice, other)))
            return lambda new: slice(*bounds(new))
        if isinstance(one, Value):
            return self._constant(one, cast(Value, other))
        if isinstance(one, float | np.ndarray):
            return self._known(one, cast("float | Array", other))
        return _always(one) if one == other and repr(one) == repr(other) else _unknown()  # 0.0 is not -0.0

    def _parts(self, one: Sequence[object], other: Sequence[object]) -> Make[list[object]]:
        parts = [self._part(*pair) for pair in _pairs(one, other)]
        return lambda new: [part(new) for part in parts]

    # -- memory -------------------------------------------------------------------------------------------------------

    def _slot(self, one: Slot, other: Slot) -> int:
        """Return the number of a slot.

        At most one axis may change: with two, sizes and strides would not be linear in the numbers.
        """
        if id(one) in self._slots:
            like, number = self._slots[id(one)]
            return number if like is other else _unknown()
        buffer = self._buffer(one.buffer, other.buffer)
        if one.dtype != other.dtype or sum(a != b for a, b in _pairs(one.shape, other.shape)) > 1:
            _unknown()
        mine, theirs = ((part.offset, part.step_stride, *part.shape, *part.strides) for part in (one, other))
        is_fixed = mine == theirs and self._memories[buffer].size is None
        self._places.append(SlotOnLine(one, buffer, None if is_fixed else self._numbers(mine, theirs)))
        self._slots[id(one)] = other, len(self._slots)
        return len(self._places) - 1

    def _buffer(self, one: Buffer, other: Buffer) -> int:
        if id(one) in self._buffers:
            like, number = self._buffers[id(one)]
            return number if like is other else _unknown()
        if (one.kind, one.index) != (other.kind, other.index) or id(other) in self._taken:
            _unknown()
        self._taken.add(id(other))
        constant = None
        if one.constant is not None and other.constant is not None:
            constant = self._constant(one, other)
        is_fixed = one.kind != "arena" and constant is None and one.nbytes == other.nbytes  # reused
        size = None if is_fixed else self._numbers((one.nbytes,), (other.nbytes,))
        self._memories.append(BufferOnLine(one, size, constant))
        self._buffers[id(one)] = other, len(self._buffers)
        return len(self._memories) - 1

    # -- constants ----------------------------------------------------------------------------------------------------

    def _constant(self, one: Value | Buffer, other: Value | Buffer) -> Make[Array]:
        """Return how a constant is made: taken from the recording, or folded again as a pass has folded it."""
        one, other = _in_the_graph(one), _in_the_graph(other)
        if one.constant is None or other.constant is None:
            _unknown()
        if isinstance(one, Buffer) or isinstance(other, Buffer) or one.folded is None or other.folded is None:
            return cast("Make[Array]", self._known(one.constant, other.constant))
        self._needs_constant = True
        (call, index), (again, _) = one.folded, other.folded
        operator = self._operator(call.operator, again.operator)
        inputs, attrs = self._parts(call.inputs, again.inputs), self._attrs(call.attrs, again.attrs)

        def folded(new: Third) -> Array:
            computed = operator(new)
            with np.errstate(all="ignore"):
                made = computed.compute(*inputs(new), **{name: part(new) for name, part in attrs.items()})
            return np.array(computed.results(made)[index])

        return folded

    def _known(self, one: float | Array, other: float | Array) -> Make[float | Array]:
        """Return how a float or an array of the two recordings is found in the third."""
        keys = key_of(one), key_of(other)
        if keys not in self._constants.known:
            return _always(one) if keys[0] == keys[1] else _unknown()  # a pass has put it in, whatever the numbers
        self._needs_constant = True
        if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
            return lambda new: new.constants[keys]
        start, ndim = self._numbers(one.shape, other.shape), one.ndim

        def reshaped(new: Third) -> Array:
            array, shape = new.constants[keys], tuple(new.numbers[start : start + ndim])
            if math.prod(shape) != np.size(array):  # of arrays with the same bytes, whatever their shapes
                _unknown()
            return np.ascontiguousarray(array).reshape(shape)

        return reshaped


class _Constants:
    """Floats and arrays of two recordings, identified by their keys in both."""

    def __init__(self, first: Skeleton, second: Skeleton) -> None:
        self._rows: list[tuple[object, object, str]] = []
        for one, other in _pairs(first.constants, second.constants):
            row = key_of(one), key_of(other), _sort(one)
            if row[0] != row[1] and row[2] != _sort(other):
                _unknown()
            self._rows.append(row)
        self.known = {row[:2] for row in self._rows}

    def of(self, third: Skeleton) -> dict[object, float | Array]:
        """Return the floats and arrays of a third recording, by the keys of those that they correspond to.

        Raises:
            UnknownError: if passes might treat the third in another way. They look for zeros, for ones, and for equal
                constants, so these must stay what they were in both, and what did not change between them may not.
        """
        found: dict[object, tuple[object, float | Array]] = {}
        for (one, other, sort), part in zip(self._rows, third.constants, strict=True):
            key = key_of(part)
            known, _ = found.setdefault((one, other), (key, part))
            if known != key or one == other != key or (one != other and _sort(part) != sort):
                _unknown()
        return {keys: part for keys, (_, part) in found.items()}


def _work(plan: Plan) -> NDArray[np.float64]:
    """Return for each instruction its floating point operations, and how many times it is done in a replay."""
    rows = [(flops_of(one), loop.steps if loop else 1) for one, loop in plan.flat()]
    return np.array(rows, float).reshape(-1, 2)


def _pairs(one: Sequence[T], other: Sequence[T]) -> Iterable[tuple[T, T]]:
    if len(one) != len(other):
        _unknown()
    return zip(one, other, strict=True)


def _always(part: T) -> Make[T]:
    return lambda new: part


def _bounds(part: slice) -> tuple[object, ...]:
    return part.start, part.stop, part.step


def _in_the_graph(constant: Value | Buffer) -> Value | Buffer:
    """Return the value in the graph of a constant: its array may take less memory than the contiguous copy."""
    value = constant.value if isinstance(constant, Buffer) else None
    return constant if value is None or value.constant is None else value


def _sort(part: float | Array) -> str:
    """Return whether a float, or an array, is all zeros, all ones, or neither."""
    array = np.asarray(part)
    if not array.any():
        return "zeros"
    return "ones" if (array == 1).all() else "others"
