"""Skeletons: recorded graphs without their numbers, to tell whether two of them differ only in numbers."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...engine.tape import Array
from ..ir.arrays import DType, Shape
from ..ir.graph import Body, Graph, Operator, Value
from ..ir.identity import Same, code_and_captures

_MOST = 1 << 61  # so that the difference of two fits into 64 bits


class Skeleton(NamedTuple):
    """A graph without its numbers, and the numbers.

    Attributes:
        form: what must be the same, as something that can be compared and hashed.
        numbers: integers: lengths of axes, indices, steps.
        shapes: which of them are the lengths of one shape: (start, stop) of each.
        constants: floating point numbers and arrays.
        operators: those that are not the package's own: functions that may hold numbers themselves.
    """

    form: tuple[object, ...]
    numbers: NDArray[np.int64]
    shapes: tuple[tuple[int, int], ...]
    constants: tuple[float | Array, ...]
    operators: tuple[Operator, ...]


def is_number(part: object) -> bool:
    """Return whether a part is an integer that may differ; larger ones (labels of 64 bits) must be the same."""
    return type(part) is int and -_MOST < part < _MOST


class _Writer:
    """The skeleton of a graph while it is written down, in the order of a walk through the graph."""

    def __init__(self) -> None:
        self.form: list[object] = []
        self.numbers: list[int] = []
        self.shapes: list[tuple[int, int]] = []
        self.constants: list[float | Array] = []
        self.operators: list[Operator] = []
        self._values: dict[Value, int] = {}

    def done(self) -> Skeleton:
        """Return what was written down."""
        return Skeleton(
            tuple(self.form),
            np.array(self.numbers, np.int64),
            tuple(self.shapes),
            tuple(self.constants),
            tuple(self.operators),
        )

    def graph(self, graph: Graph) -> None:
        """Write down a graph."""
        for value in (*graph.inputs, *graph.captured):
            self._value(value)
        form, values = self.form, self._values
        for call in graph.calls:
            self._operator(call.operator)
            form.append(len(call.inputs))
            for part in call.inputs:
                if type(part) is Value and part in values:  # nearly all of them: without a call, which takes longer
                    form.append(values[part])
                else:
                    self.part(part)
            for name, attribute in call.attrs.items():
                form.append(name)
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
        self._array(value.shape, value.dtype)

    def _array(self, shape: Shape, dtype: DType) -> None:
        start = len(self.numbers)
        self.shapes.append((start, start + len(shape)))
        self.form += (len(shape), dtype)
        self.numbers += shape

    def part(self, part: object) -> None:
        """Write down an operand, or an attribute."""
        if isinstance(part, Value):
            number = self._values.get(part)
            self.form.append(number)
            if number is None:
                assert part.constant is not None
                self.constants.append(part.constant)
                self._value(part)
        elif type(part) is int and -_MOST < part < _MOST:
            self.form.append(int)
            self.numbers.append(part)
        elif type(part) is tuple or type(part) is list:
            self.form += (type(part), len(part))
            for inner in part:
                self.part(inner)
        elif type(part) is float:
            self.form.append(float)
            self.constants.append(part)
        elif type(part) is slice:
            self.form.append(slice)
            self.part((part.start, part.stop, part.step))
        elif isinstance(part, Body):
            self.form += (Body, part.carried, part.sliced, part.reverse)
            self.numbers.append(part.steps)
            known = part.graph.skeleton
            self._body(known if isinstance(known, Skeleton) else skeleton(part.graph))
        elif isinstance(part, np.ndarray):
            self._array(part.shape, part.dtype)
            self.constants.append(part)
        else:
            self._other(part)

    def _body(self, body: Skeleton) -> None:
        """Write down the body of a loop, which reads no value of the graph around it."""
        start = len(self.numbers)
        self.form.append(body.form)
        self.numbers += body.numbers.tolist()
        self.shapes += [(start + first, start + stop) for first, stop in body.shapes]
        self.constants += body.constants
        self.operators += body.operators

    def _other(self, part: object) -> None:
        """Write down anything else: a function, a name, an object."""
        function = code_and_captures(part)
        if function is not None:
            self.form.append(function[0])
            self.part(function[1])
        elif isinstance(part, complex | np.generic):
            self.form += (type(part), repr(part))  # 0.0 is not -0.0
        else:
            self.form += (type(part), part if _is_hashable(part) else Same(part))


def _is_hashable(part: object) -> bool:
    try:
        hash(part)
    except TypeError:
        return False
    return True


def key_of(part: float | Array) -> object:
    """Return a key of a float or an array: it tells 0.0 from -0.0, and arrays by their bytes, whatever their shape."""
    if not isinstance(part, np.ndarray):
        return float.hex(part)
    if part.size and not any(part.strides):  # one element everywhere
        return part.dtype, part.size, part[(0,) * part.ndim].tobytes()
    return part.dtype, part.size, blake2b(part.tobytes(), digest_size=16).digest()


def skeleton(graph: Graph) -> Skeleton:
    """Return the skeleton of a graph as it was recorded, before any pass has written into it."""
    writer = _Writer()
    writer.graph(graph)
    return writer.done()
