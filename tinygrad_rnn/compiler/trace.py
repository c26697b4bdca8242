"""Recording a function for a plan: everything that is computed on Tensors, forward, backward and without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..engine.primitive import Primitive
from ..engine.tape import Array, Node, context, tracing
from ..engine.tensor import Tensor, wrap
from ..engine.tree import flatten, map_leaves, rebuild
from ..errors import TraceError
from .graph import Call, Graph, Operator, Value

Place = tuple[int, int]


class Tracer:
    """Takes note of every operation while a function runs; see `trace`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.captured: list[tuple[Value, Any]] = []
        self._values: dict[int, Value] = {}  # by id of a Tensor
        self._places: dict[Place, Value] = {}  # by node and output: a rule sees new Tensors of kept arrays
        self._held: list[Any] = []  # keeps what is known by id alive
        self._operators: dict[Any, Operator] = {}
        self.inputs: list[Value] = []

    # -- what the engine calls ----------------------------------------------------------------------------------------

    def record(self, operation: Any, inputs: Sequence[Any], attrs: dict[str, Any], results: Sequence[Tensor]) -> None:
        """Append a call of a primitive."""
        call = Call(
            self._operator(operation),
            [self._operand(part) for part in inputs],
            {name: self._operand(part) if isinstance(part, Tensor) else part for name, part in attrs.items()},
            [(part._data.shape, part._data.dtype) for part in results],
            context()[2:4],
        )
        self.calls.append(call)
        for result, value in zip(results, call.outputs, strict=True):
            self._know(result, value)

    def lift(self, array: Array, place: tuple[Node, int]) -> Tensor:
        """Return the Tensor at a place of the graph, around an array that its rule kept."""
        node, index = place
        tensor = wrap(array, node, index)
        value = self._places.get((node.id, index))
        if value is None and node.operation is None and node.owner is not None and (leaf := node.owner()) is not None:
            value = self._capture(leaf)
        if value is None:
            raise TraceError(
                f"compile: {node.name}, recorded at {node.where()}, was recorded before the function was called, and a "
                "gradient goes back through it; pass it to the function as an argument"
            )
        self._know(tensor, value)
        return tensor

    def constant(self, name: str, function: Callable[..., Any], args: Sequence[Any], repeatable: bool) -> Any:
        """Append a call of a function without a gradient; its result is a Tensor, so that nobody reads it unseen."""
        result = wrap(np.array(function(*(part._data if isinstance(part, Tensor) else part for part in args))))
        key = (function, name)
        if key not in self._operators:
            self._operators[key] = Operator(name, function, isinstance(function, np.ufunc), repeatable)
        operands = [self._operand(part) for part in args]
        call = Call(self._operators[key], operands, {}, [(result._data.shape, result._data.dtype)], context()[2:4])
        self.calls.append(call)
        self._know(result, call.output)
        return result

    # -- operands -----------------------------------------------------------------------------------------------------

    def argument(self, array: Array, tensor: Tensor | None, name: str) -> Tensor:
        """Return the Tensor that stands for an argument of the function while it is recorded."""
        value = Value(array.shape, array.dtype, name=name)
        self.inputs.append(value)
        if tensor is None:
            tensor = wrap(np.array(array))
        self._know(tensor, value)
        return tensor

    def generator(self, rng: np.random.Generator, name: str) -> None:
        """Take note of a generator among the arguments."""
        value = Value((), np.dtype(object), name=name)
        self.inputs.append(value)
        self._values[id(rng)] = value
        self._held.append(rng)

    def value_of(self, part: Any) -> Value:
        """Return the value of a result of the function."""
        return self._operand(part) if isinstance(part, Tensor) else self._constant(np.asarray(part))

    def _operand(self, part: Any) -> Any:
        if isinstance(part, Tensor):
            value = self._values.get(id(part))
            if value is None and part._node is not None:
                value = self._places.get((part._node.id, part._index))
                if value is None and part.is_leaf:
                    value = self._capture(part)
                elif value is None:
                    raise TraceError(
                        f"compile: a result of {part._node.name}, recorded at {part._node.where()}, was computed before "
                        "the function was called; pass it as an argument"
                    )
            return self._constant(part._data) if value is None else value
        if isinstance(part, np.ndarray):
            return self._constant(part)
        if isinstance(part, np.random.Generator):
            value = self._values.get(id(part))
            if value is None:
                value = self._values[id(part)] = Value((), np.dtype(object), name="generator")
                self.captured.append((value, part))
            return value
        if isinstance(part, np.generic):
            return self._constant(np.asarray(part))
        return part  # a Python number, a shape, a dtype: frozen

    def _constant(self, array: Array) -> Value:
        value = self._values.get(id(array))
        if value is None:
            frozen = np.array(array)
            value = self._values[id(array)] = Value(frozen.shape, frozen.dtype, constant=frozen)
            self._held.append(array)
        return value

    def _capture(self, leaf: Tensor) -> Value:
        """Return the value of a parameter that the function uses without being given it: read anew at each replay."""
        value = Value(leaf._data.shape, leaf._data.dtype, name=leaf.name or "")
        self.captured.append((value, leaf))
        self._know(leaf, value)
        return value

    def _know(self, tensor: Tensor, value: Value) -> None:
        self._values[id(tensor)] = value
        self._held.append(tensor)
        if tensor._node is not None:
            self._places[tensor._node.id, tensor._index] = value

    def _operator(self, operation: Any) -> Operator:
        found = self._operators.get(operation)
        if found is None:
            found = self._operators[operation] = operator_of(operation)
        return found


@cache
def operator_of(operation: Primitive[Any]) -> Operator:
    """Return the operator that computes a primitive."""
    return Operator(operation.name, operation.forward, getattr(operation, "accepts_out", False))


class Recorded(NamedTuple):
    """A function, recorded.

    Attributes:
        graph: what it computed.
        captured: parameters and generators that it used without being given them.
        result: what it returned, with `ARRAY` where a Tensor or an array was.
    """

    graph: Graph
    captured: list[Any]
    result: Any


ARRAY = object()


def trace(function: Callable[..., Any], args: tuple[Any, ...]) -> Recorded:
    """Run a function once and return what it computed.

    Raises:
        TraceError: if it reads a value, or uses what cannot be replayed.
    """
    tracer = Tracer()
    stand_ins = [_stand_in(tracer, leaf, f"arg{number}") for number, leaf in enumerate(flatten(args))]
    with tracing(tracer):
        result = function(*rebuild(args, iter(stand_ins)))
    outputs = [tracer.value_of(part) for part in flatten(result) if isinstance(part, Tensor | np.ndarray)]
    graph = Graph(tracer.inputs, tracer.calls, outputs, [value for value, _ in tracer.captured])
    kept = map_leaves(lambda part: ARRAY if isinstance(part, Tensor | np.ndarray) else part, result)
    return Recorded(graph, [leaf for _, leaf in tracer.captured], kept)


def _stand_in(tracer: Tracer, leaf: Any, name: str) -> Any:
    """Return what the function gets for an argument while it is recorded."""
    if isinstance(leaf, Tensor):
        return tracer.argument(leaf._data, leaf if leaf.requires_grad else None, leaf.name or name)
    if isinstance(leaf, np.ndarray):
        return tracer.argument(leaf, None, name)
    if isinstance(leaf, np.random.Generator):
        tracer.generator(leaf, name)
    return leaf
