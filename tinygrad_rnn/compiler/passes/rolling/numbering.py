"""Value numbering: values that are computed in the same way have the same number.

Rolling depends on it: a loop is checked by computing the numbers that its body gives, step by step. A value of the
graph with the same number is the same value, however the loop was found.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ....engine.tape import Array
from ...ir.abstract import Spec
from ...ir.graph import Attrs, Call, Graph, Operator, Value
from ...ir.identity import Same, code_and_captures
from ...ir.table import VIEWS

ZERO = 0
"""The number of a missing term: zeros of any shape."""

Source = tuple["Node | None", int]
"""The node that computes an operand, and the index of its result; (None, 0) for an input or a constant."""

Operand = tuple[int, Source]
"""Value number of an operand, and its source."""

_SMALL = 1 << 16  # most elements of a constant that is compared by value
_NUMBERS = (bool, int, float, complex)
_COMMUTE = frozenset(("add", "multiply"))
_LINEAR = VIEWS | {"sum", "negative", "astype", "stack", "concatenate"}


class Node:
    """A call, with numbers in place of values.

    Attributes:
        call: its operator, attributes, shapes and dtypes.
        operands: numbers of its operands: values, and Python numbers among its inputs.
        sources: the source of each operand.
        outs: numbers of its results.
        static: identity of its operation and attributes, without its operands.
        role: equal for nodes that do the same, whatever the integers of an index.
        ints: for a getitem, the integers of its index.
        pattern: for a getitem, the identity of its index without its integers; else -1.
        place: its place in the sequence of nodes.
        is_sum: whether it adds terms of a cotangent.
    """

    __slots__ = ("call", "ints", "is_sum", "operands", "outs", "pattern", "place", "role", "sources", "static")

    def __init__(self, call: Call, operands: tuple[int, ...], sources: tuple[Source, ...], static: int) -> None:
        self.call, self.operands, self.sources, self.static = call, operands, sources, static
        self.outs: tuple[int, ...] = ()
        self.role = self.pattern = self.place = -1
        self.is_sum = call.cotangent is not None and call.operator.name == "add"
        self.ints: tuple[int, ...] = ()


class Numbering:
    """Numbers of the values of a graph.

    Attributes:
        nodes: of the calls of the graph, in its order.
        values: for each number a value that has it, or the Python number.
        makers: for each number the first node that computes it, and the index of its result.
        number: of each value of the graph.
        slices: (number of an array, pattern of an index, its integers) to the number of that slice.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: list[Any] = [None]
        self.makers: list[tuple[Node | None, int]] = [(None, 0)]
        self.number: dict[Value, int] = {}
        self.slices: dict[tuple[int, int, tuple[int, ...]], int] = {}
        self._found: dict[Hashable, tuple[int, ...]] = {}
        self._parts: dict[Hashable, int] = {}
        self._kinds: dict[Hashable, tuple[int, int, int, tuple[int, ...]]] = {}
        self._ids: dict[Hashable, int] = {}
        self._unknown = 0
        self._origin: dict[Value, tuple[Node, int]] = {}
        for value in (*graph.inputs, *graph.captured):
            self.number[value] = self.fresh(value)
        self.nodes = [self._recorded(call) for call in graph.calls if not self._is_cut(call)]

    def fresh(self, value: object) -> int:
        """Return a new number for a value."""
        self.values.append(value)
        self.makers.append((None, 0))
        return len(self.values) - 1

    def of(self, part: object) -> int:
        """Return the number of a value of the graph, or of a Python number."""
        if not isinstance(part, Value):
            key = type(part), repr(part)
            if key not in self._parts:
                self._parts[key] = self.fresh(part)
            return self._parts[key]
        found = self.number.get(part)
        if found is None:  # a constant
            found = self.number[part] = self._constant(part)
        return found

    def constant(self, array: Array) -> int:
        """Return the number of a constant."""
        return self._constant(Value(array.shape, array.dtype, constant=array))

    def _constant(self, value: Value) -> int:
        array = value.constant
        if array is None or array.size > _SMALL or array.dtype.hasobject:
            return self.fresh(value)
        key = value.shape, value.dtype.str, array.tobytes()
        if key not in self._parts:
            self._parts[key] = self.fresh(value)
        return self._parts[key]

    def is_number(self, number: int) -> bool:
        """Return whether a number stands for a Python number."""
        return number > 0 and not isinstance(self.values[number], Value)

    def is_constant(self, number: int) -> bool:
        """Return whether a number stands for a constant array."""
        value = self.values[number] if number > 0 else None
        return isinstance(value, Value) and value.constant is not None

    def spec(self, number: int) -> Spec | None:
        """Return shape and dtype of a value; None if they are not known, or it is a Python number."""
        value = self.values[number] if number > 0 else None
        return value.spec if isinstance(value, Value) else None

    def identity(self, key: Hashable) -> int:
        """Return a small integer for a key, the same for equal keys."""
        return self._ids.setdefault(key, len(self._ids))

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _is_cut(self, call: Call) -> bool:
        """Return whether a call is a cut, the identity in a graph; if so, its result gets the number of its operand."""
        if call.operator.name != "cut" or call.output.dtype.kind == "c":  # there a cut scales the imaginary part
            return False
        (x,) = call.inputs
        self.number[call.output] = self.of(x)
        if x in self._origin:
            self._origin[call.output] = self._origin[x]
        return True

    def _recorded(self, call: Call) -> Node:
        parts = list(operands_of(call))
        number, origin, of = self.number, self._origin, self.of
        operands = tuple([number[part] if part in number else of(part) for part in parts])
        node = self._node(call, operands, tuple([origin.get(part, _NOWHERE) for part in parts]))
        node.outs = self._outs(node, call.outputs)
        self._learn(node)
        for index, value in enumerate(call.outputs):
            number[value] = node.outs[index]
            origin[value] = node, index
        return node

    def made(
        self,
        operator: Operator,
        operands: Sequence[Operand],
        attrs: Attrs,
        spec: Spec,
        outs: tuple[int, ...] | None = None,
    ) -> Node:
        """Return a node for a new call with one result.

        Args:
            operator, operands, attrs: of the call.
            spec: of its result.
            outs: the number of its result, where other nodes read it already.
        """
        call = Call(operator, [self.values[number] for number, _ in operands], attrs, [spec])
        node = self._node(call, tuple(n for n, _ in operands), tuple(source for _, source in operands))
        if outs is None:
            node.outs = self._outs(node, call.outputs)
        else:
            node.outs = self._found[self._key(node, node.operands)] = outs
            for index, number in enumerate(outs):
                self.makers[number] = node, index
        self._learn(node)
        return node

    def _node(self, call: Call, operands: tuple[int, ...], sources: tuple[Source, ...]) -> Node:
        known = self._kinds.get(key := _kind(call))
        if known is None:
            known = self._kinds[key] = self._kind_of(call)
        node = Node(call, operands, sources, known[0])
        _, node.role, node.pattern, node.ints = known
        return node

    def _kind_of(self, call: Call) -> tuple[int, int, int, tuple[int, ...]]:
        """Return (static, role, pattern, ints) of a node for a call."""
        static = self.identity(("static", _function(call), _structure(call)))
        found = integers_of(call.attrs["index"], call.inputs[0].shape) if call.name == "getitem" else None
        ints, pattern = ((), -1) if found is None else (found[0], self.identity(("pattern", found[1])))
        specs = tuple(value.spec for value in call.outputs)
        return static, self.identity(("role", static if found is None else pattern, specs)), pattern, ints

    def _outs(self, node: Node, outputs: Iterable[Value]) -> tuple[int, ...]:
        if not node.call.operator.pure:
            return tuple(map(self.fresh, outputs))
        key = self._key(node, node.operands)
        if key not in self._found:
            self._found[key] = tuple(map(self.fresh, outputs))
        return self._found[key]

    def _learn(self, node: Node) -> None:
        for index, number in enumerate(node.outs):
            if self.makers[number][0] is None:
                self.makers[number] = node, index
        if node.pattern >= 0:
            self.slices.setdefault((node.operands[0], node.pattern, node.ints), node.outs[0])

    def _key(self, node: Node, operands: tuple[int, ...]) -> Hashable:
        if node.call.operator.name in _COMMUTE and operands[0] > operands[1]:
            operands = operands[1], operands[0]
        return node.static, operands

    # -- nodes with other operands ------------------------------------------------------------------------------------

    def unknown(self) -> int:
        """Return the number of a value that is not in the graph; no other value has it."""
        self._unknown -= 1
        return self._unknown

    def apply(self, node: Node, operands: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of a pure node's results for these operands.

        Zeros are propagated, and operations on constants are computed.
        """
        found = self._found.get(self._key(node, operands))
        if found is not None:
            return found
        call = node.call
        if ZERO in operands:
            return self._of_zeros(call, operands)
        if operands and all(map(self.is_constant, operands)) and sum(v.size for v in call.outputs) <= _SMALL:
            inputs, attrs = with_operands(call, [self.values[number].constant for number in operands])
            made = call.operator.results(call.operator.compute(*inputs, **attrs))
            return tuple(self.constant(np.array(array)) for array in made)
        return tuple(self.unknown() for _ in call.outputs)

    def _of_zeros(self, call: Call, operands: tuple[int, ...]) -> tuple[int, ...]:
        zeros = tuple(ZERO for _ in call.outputs)
        spec = call.outputs[0].shape, call.outputs[0].dtype
        if call.name == "add":
            (other,) = [number for number in operands if number != ZERO] or [ZERO]
            if other == ZERO or self.spec(other) == spec:
                return (other,)
        if call.name == "subtract" and (operands[1] == ZERO) and self.spec(operands[0]) == spec:
            return operands[:1]
        if call.name in ("multiply", "matmul") or (call.name == "divide" and operands[0] == ZERO):
            return zeros
        if call.name in _LINEAR and all(number == ZERO for number in operands):
            return zeros
        return tuple(self.unknown() for _ in call.outputs)

    def maker(self, number: int) -> tuple[Node, int] | None:
        """Return the node that computes a value, and the index of its result; None if no node does."""
        node, index = self.makers[number] if number > 0 else (None, 0)
        return None if node is None else (node, index)


# -- keys of calls ----------------------------------------------------------------------------------------------------


def operands_of(call: Call) -> Iterator[Any]:
    """Yield the operands of a call, in the order of its inputs and attributes: values, and Python numbers of inputs."""
    for place, part in enumerate((*call.inputs, *call.attrs.values())):
        if isinstance(part, Value) or (place < len(call.inputs) and type(part) in _NUMBERS):
            yield part
        elif type(part) is tuple:
            yield from (inner for inner in part if isinstance(inner, Value))


def with_operands(call: Call, operands: Iterable[object]) -> tuple[list[object], dict[str, object]]:
    """Return the inputs and the attributes of a call with its operands replaced, in the order of `operands_of`."""
    given = iter(operands)

    def put(part: object, is_input: bool) -> object:
        if isinstance(part, Value) or (is_input and type(part) in _NUMBERS):
            return next(given)
        if isinstance(part, tuple):
            return tuple(next(given) if isinstance(inner, Value) else inner for inner in part)
        return part

    inputs = [put(part, True) for part in call.inputs]
    return inputs, {name: put(part, False) for name, part in call.attrs.items()}


def _structure(call: Call) -> Hashable:
    inputs = tuple([None if isinstance(p, Value) or type(p) in _NUMBERS else _key(p) for p in call.inputs])
    return inputs, tuple([(name, _key(part)) for name, part in call.attrs.items()]) if call.attrs else ()


def _kind(call: Call) -> Hashable:
    """Return a key of a call without its operands."""
    specs = tuple([value.spec for value in call.outputs])
    shape = call.inputs[0].shape if call.name == "getitem" else None  # negative integers of an index depend on it
    return _function(call), _structure(call), specs, shape


def _key(part: object) -> Hashable:
    """Return a key of a part: by value where that is possible, else by identity."""
    if isinstance(part, Value):
        return None
    if part is None or type(part) in (int, str, bool):
        return type(part), part
    if isinstance(part, tuple | list):
        return type(part), tuple(map(_key, part))
    if isinstance(part, np.ndarray) and part.size <= _SMALL and not part.dtype.hasobject:
        return "array", part.shape, part.dtype.str, part.tobytes()
    if isinstance(part, slice):
        return "slice", _key(part.start), _key(part.stop), _key(part.step)
    if isinstance(part, float | complex | np.generic | np.dtype):
        return type(part), repr(part)
    function = code_and_captures(part)
    if function is not None:
        return "function", function[0], _key(function[1])
    return "object", part if isinstance(part, Same) else Same(part)


def _function(call: Call) -> Hashable:
    """Return a key of a call's operator; a function without a gradient is compared by its code and captures."""
    key = call.operator.key
    if isinstance(key, str):
        return key
    if type(key) is tuple and len(key) == 2 and callable(key[0]):
        return _key(key[0]), key[1]
    return Same(key)


def integers_of(index: object, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Hashable, ...]] | None:
    """Return (integers of an index into an array, counted from 0, the index with None in their places).

    None if the index has no integers, or parts that are neither integers nor slices.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if not all(type(part) in (int, slice) for part in parts) or len(parts) > len(shape):
        return None
    ints = tuple(part % length for part, length in zip(parts, shape, strict=False) if type(part) is int)
    if not ints:
        return None
    rest = tuple(None if type(part) is int else _key(part) for part in parts)
    while rest and rest[-1] == _ALL:
        rest = rest[:-1]
    return ints, rest


_NOWHERE = (None, 0)
_ALL = _key(slice(None))
