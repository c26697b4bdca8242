"""Recorded graphs and plans without their numbers: what must be the same for two of them to differ in size alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...engine.tape import Array
from ..ir.graph import Body, Graph, Operator, Value
from ..ir.identity import Same, opened
from .arena import place_buffers
from .instructions import Buffer, Instruction, Loop, Slot
from .plan import Plan

_MOST = 1 << 61  # differences of two have room in 64 bits


class Skeleton(NamedTuple):
    """A graph, or a plan, without its numbers, and the numbers.

    Attributes:
        form: what must be the same, as something that can be compared and hashed.
        numbers: integers: lengths of axes, indices, steps, places in memory.
        shapes: which of them are the lengths of one shape: (start, stop) of each.
        reals: floating point numbers.
        arrays: constants.
        values: what the constants are known as in the graph, None for an attribute.
        operators: those that are not the package's own: functions that may hold numbers themselves.
    """

    form: tuple[Any, ...]
    numbers: NDArray[np.int64]
    shapes: tuple[tuple[int, int], ...]
    reals: tuple[float, ...]
    arrays: tuple[Array, ...]
    values: tuple[Value | None, ...]
    operators: tuple[Operator, ...]


def is_number(part: Any) -> bool:
    """Return whether a part is an integer that can be reckoned with; others (labels of 64 bits) must be the same."""
    return type(part) is int and -_MOST < part < _MOST


class _Writer:
    """Writes down what something consists of, in the order in which it is walked through."""

    def __init__(self) -> None:
        self.form: list[Any] = []
        self.numbers: list[int] = []
        self.shapes: list[tuple[int, int]] = []
        self.reals: list[float] = []
        self.arrays: list[Array] = []
        self.values: list[Value | None] = []
        self.operators: list[Operator] = []
        self._values: dict[Value, int] = {}

    def done(self) -> Skeleton:
        """Return what was written down."""
        numbers = np.array(self.numbers, np.int64)
        parts = (self.shapes, self.reals, self.arrays, self.values, self.operators)
        return Skeleton(tuple(self.form), numbers, *map(tuple, parts))  # type: ignore[arg-type]

    def graph(self, graph: Graph) -> None:
        """Write down a graph."""
        for value in (*graph.inputs, *graph.captured):
            self._value(value)
        for call in graph.calls:
            self._operator(call.operator)
            self.part(call.inputs)
            for name, attribute in call.attrs.items():
                self.form.append(name)
                self.part(attribute)
            for value in call.outputs:
                self._value(value)
        self.part(tuple(graph.outputs))

    def _operator(self, operator: Operator) -> None:
        key = operator.key
        self.form.append(operator.name)
        if isinstance(key, str):
            return
        self.operators.append(operator)
        self.part(key[0] if isinstance(key, tuple) else key)

    def _value(self, value: Value) -> None:
        self._values[value] = len(self._values)
        self.shape(value.shape)
        self.form.append(value.dtype)

    def shape(self, shape: tuple[int, ...]) -> None:
        """Write down a shape."""
        start = len(self.numbers)
        self.shapes.append((start, start + len(shape)))
        self.form.append(len(shape))
        self.numbers += shape

    def part(self, part: Any) -> None:
        """Write down an operand, or an attribute."""
        kind = type(part)
        if kind is Value:
            number = self._values.get(part)
            self.form.append(number)
            if number is None:
                self.arrays.append(part.constant)
                self.values.append(part)
                self._value(part)
        elif is_number(part):
            self.form.append(int)
            self.numbers.append(part)
        elif kind is float:
            self.form.append(float)
            self.reals.append(part)
        elif kind is tuple or kind is list:
            self.form += (kind, len(part))
            for inner in part:
                self.part(inner)
        elif kind is slice:
            self.form.append(slice)
            self.part((part.start, part.stop, part.step))
        elif kind is Body:
            self.form += (Body, part.carried, part.sliced, part.reverse)
            self.numbers.append(part.steps)
            self.graph(part.graph)
        elif isinstance(part, np.ndarray):
            self.form.append(part.dtype)
            self.shape(part.shape)
            self.arrays.append(part)
            self.values.append(None)
        else:
            self._other(kind, part)

    def _other(self, kind: type, part: Any) -> None:
        """Write down what is no value, number, array or nesting of them: a function, a name, an object."""
        function = opened(part)
        if function is not None:
            self.form.append(function[0])
            self.part(function[1])
        elif isinstance(part, complex | np.generic):
            self.form += (kind, repr(part))  # 0.0 is not -0.0
        else:
            self.form += (kind, part if _is_hashable(part) else Same(part))


def _is_hashable(part: Any) -> bool:
    try:
        hash(part)
    except TypeError:
        return False
    return True


class _PlanWriter(_Writer):
    """Writes down a plan; operators that a recorded graph brought are known by their number there."""

    def __init__(self, recorded: Skeleton) -> None:
        super().__init__()
        self._brought = {id(operator): number for number, operator in enumerate(recorded.operators)}
        self._slots: dict[int, int] = {}
        self._buffers: dict[int, int] = {}

    def plan(self, plan: Plan) -> None:
        """Write down a plan."""
        for one in plan.instructions:
            if isinstance(one, Loop):
                self.form += (Loop, len(one.instructions), one.reverse)
                self.numbers.append(one.steps)
            for instruction in one.instructions if isinstance(one, Loop) else (one,):
                self._instruction(instruction)
        self.part(tuple(plan.inputs))
        self.part(tuple(plan.outputs))

    def _instruction(self, instruction: Instruction) -> None:
        operator = instruction.operator
        self.form += (operator.name, self._brought.get(id(operator), operator.key))
        self.part(instruction.inputs)
        self.part(instruction.outputs)
        self.part(tuple(instruction.attrs.items()))

    def part(self, part: Any) -> None:
        """Write down an operand, an attribute, or a slot."""
        if type(part) is not Slot:
            super().part(part)
            return
        number = self._slots.get(id(part))
        self.form.append(number)
        if number is None:
            self._slots[id(part)] = len(self._slots)
            self._slot(part)

    def _slot(self, slot: Slot) -> None:
        buffer = slot.buffer
        number = self._buffers.get(id(buffer))
        self.form += (number, slot.dtype)
        self.numbers += (slot.offset, slot.turn, *slot.strides)
        self.shape(slot.shape)
        if number is None:
            self._buffers[id(buffer)] = len(self._buffers)
            self.form += (buffer.kind, buffer.index)
            self.numbers.append(buffer.nbytes)
            if buffer.constant is not None:
                value = buffer.value  # its array may take less memory than a copy in one piece
                self.arrays.append(buffer.constant if value is None or value.constant is None else value.constant)
                self.values.append(value)


def skeleton(graph: Graph) -> Skeleton:
    """Return the skeleton of a graph as it was recorded, before any pass has written into it."""
    writer = _Writer()
    writer.graph(graph)
    return writer.done()


def plan_skeleton(plan: Plan, recorded: Skeleton) -> Skeleton:
    """Return the skeleton of a plan that was made of a recorded graph."""
    writer = _PlanWriter(recorded)
    writer.plan(plan)
    return writer.done()


class _Reader:
    """Makes a plan like another one, in the same order, with other numbers."""

    def __init__(self, like: Plan, found: Skeleton, recorded: Skeleton, brought: Skeleton) -> None:
        self._numbers: list[int] = found.numbers.tolist()
        self._at = 0
        self._reals, self._arrays = iter(found.reals), iter(found.arrays)
        self._operators = {
            id(old): new for old, new in zip(recorded.operators, brought.operators, strict=True) if old is not new
        }
        self._slots: dict[int, Slot] = {}
        self._buffers: dict[int, Buffer] = {}
        self.like = like

    def plan(self) -> Plan:
        instructions: list[Instruction | Loop] = []
        for one in self.like.instructions:
            if isinstance(one, Loop):
                (steps,) = self._next(1)
                instructions.append(Loop(tuple(map(self._instruction, one.instructions)), steps, one.reverse))
            else:
                instructions.append(self._instruction(one))
        inputs, outputs = self._part(tuple(self.like.inputs)), self._part(tuple(self.like.outputs))
        size = place_buffers(self._buffers.values())
        return Plan(instructions, list(inputs), list(outputs), size, self.like.passes, self.like.last)

    def _instruction(self, one: Instruction) -> Instruction:
        operator = self._operators.get(id(one.operator), one.operator)
        inputs, outputs = self._part(one.inputs), self._part(one.outputs)
        attrs = {name: self._part(part) for name, part in one.attrs.items()}
        return Instruction(operator, inputs, outputs, attrs, one.step)

    def _part(self, part: Any) -> Any:
        kind = type(part)
        if kind is Slot:
            found = self._slots.get(id(part))
            return self._slot(part) if found is None else found
        if kind is tuple or kind is list:
            return kind([self._part(inner) for inner in part])
        if is_number(part):
            return self._next(1)[0]
        if kind is float:
            return next(self._reals)
        if kind is slice:
            return slice(*map(self._part, (part.start, part.stop, part.step)))
        if isinstance(part, np.ndarray):
            self._next(part.ndim)
            return next(self._arrays)
        return part

    def _next(self, count: int) -> list[int]:
        at = self._at
        self._at = at + count
        return self._numbers[at : self._at]

    def _slot(self, old: Slot) -> Slot:
        ndim = len(old.shape)
        offset, turn, *lengths = self._next(2 + 2 * ndim)
        like = old.buffer
        buffer = self._buffers.get(id(like))
        if buffer is None:
            (nbytes,) = self._next(1)
            constant = None if like.constant is None else np.ascontiguousarray(next(self._arrays))
            buffer = Buffer(like.kind, nbytes, 0, constant, like.index, like.born, like.dies)
            self._buffers[id(like)] = buffer
        made = Slot(buffer, offset, tuple(lengths[ndim:]), tuple(lengths[:ndim]), old.dtype, turn)
        self._slots[id(old)] = made
        return made


def plan_like(plan: Plan, found: Skeleton, recorded: Skeleton, brought: Skeleton) -> Plan:
    """Return a plan like another one with the numbers of a skeleton, and an arena of its own.

    Args:
        plan: the other one.
        found: its skeleton, with other numbers, reals and arrays.
        recorded: that of the graph that it was made of.
        brought: that of the graph whose operators the new one takes.
    """
    return _Reader(plan, found, recorded, brought).plan()
