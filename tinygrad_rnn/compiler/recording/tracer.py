"""The tracer: observes every operation on Tensors while a function runs, and records it as a call of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from ...engine.arrays import is_fixed
from ...engine.primitive import Primitive
from ...engine.tape import Array, Edge, Node, Operation, context
from ...engine.tensor import Tensor, wrap
from ...engine.walk import ancestors
from ...errors import TraceError
from ..ir.abstract import specs_of
from ..ir.arrays import abstract_array, uniform_elementwise, uniform_reduction, unit_matrices
from ..ir.graph import Attrs, Call, Operator, Value, map_attrs
from ..ir.operators import operator_of
from ..ir.table import ELEMENTWISE
from .draws import Draws, OtherSources, state_of
from .frames import Frame, Homes, leaked
from .known import Known
from .outside import same

_PLAIN = frozenset({int, bool, float, str, type(None)})  # types of attributes that are kept as they are
_ARRAYS = np.ndarray, np.generic


class Tracer:
    """The recorder of every operation while a function runs; see `trace`.

    Args:
        named: arrays and sources of random numbers that the code of the function names.
        known: from earlier recordings of the function; it is written to.
    """

    def __init__(self, named: Iterable[object] = (), known: Known | None = None) -> None:
        self.known = known or Known()
        self.calls: list[Call] = []
        self.frame: Frame | None = None  # the body of a loop that is being recorded
        self.homes: Homes = {}
        self.captured: list[tuple[Value, object]] = []
        self._values: dict[int, Value] = {}  # by id of a Tensor
        self._by_edge: dict[tuple[int, int], Value] = {}  # by node and output: a rule sees new Tensors of kept arrays
        self._held: list[object] = []  # keeps objects alive that are known by id
        self._constants: dict[int, tuple[Array, Value]] = {}  # by id of an array: the array, and what it held last
        self.outside: list[tuple[Array, Array | None]] = []  # arrays of the caller's, and copies of them
        self._operators: dict[object, Operator] = {}
        self._draws: dict[int, Draws] = {}
        self._past: list[_Past] = []  # of arguments that were computed before the call
        self._origins: dict[Node, Node] = {}  # from the node of the stand-in for such an argument to its node
        self._stand_ins: dict[tuple[int, int], Tensor] = {}
        self.inputs: list[Value] = []
        self._others = OtherSources(named)
        self._drawn: str | None = None  # what the function drew from by itself
        for part in named:
            if isinstance(part, np.random.Generator):
                self._draws[id(part)] = Draws(part)
            elif isinstance(part, np.ndarray):
                self.seen(part)

    # -- what the engine calls ----------------------------------------------------------------------------------------

    def record(self, operation: Operation, inputs: Sequence[object], attrs: Attrs, results: Sequence[Tensor]) -> None:
        """Append a call of a primitive."""
        values, homes, frame = self._values, self.homes, self.frame
        operands: list[object] = []
        for part in inputs:
            value = values.get(id(part))
            if value is None or homes.get(value) is not frame:
                operands.append(self._input(part, operation.name))
            else:
                operands.append(value)
        call = Call(
            operator_of(cast("Primitive[..., object]", operation)),
            operands,
            map_attrs(self._attribute, attrs) if attrs else {},
            [(part._array.shape, part._array.dtype) for part in results],
            context()[2:4],
        )
        self.append(call)
        for result, made in zip(results, call.outputs, strict=True):
            self.know(result, made)

    def abstract(self, operation: Operation, values: Sequence[object], attrs: Attrs) -> tuple[Array, ...] | None:
        """Return abstract arrays for the results of an operation; None if it must be computed.

        It must be if no rule infers its results, if it is wrong (then it raises), or if it gives unequal integers.
        """
        operator = operator_of(cast("Primitive[..., object]", operation))
        specs = specs_of(operator.name, operator.compute, values, attrs)
        if specs is None:
            return None
        outputs = tuple([abstract_array(*spec) for spec in specs if spec[1].kind in "fc"])
        if len(outputs) == len(specs):
            return outputs
        if operator.name in ELEMENTWISE:
            made = uniform_elementwise(partial(operator.compute, **attrs), values, specs[0][0])
        else:
            made = uniform_reduction(operator.name, values[0], specs[0])
        return None if made is None else (made,)

    def computed(self, forward: Callable[..., object]) -> Callable[..., object]:
        """Return a function that is called again, on unit matrices, if it fails on ones, as decompositions do."""

        def called(*values: object, **attrs: object) -> object:
            try:
                return forward(*values, **attrs)
            except np.linalg.LinAlgError:
                return forward(*map(unit_matrices, values), **attrs)

        return called

    def abstracted(self, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return abstract arrays in place of floating point outputs: nobody may read their values.

        Integers and booleans keep their values, since checks of ids read them.
        """
        return tuple(map(_abstract, outputs))

    def wanted(self, nodes: Sequence[Node]) -> None:
        """Raise TraceError if a gradient would go back through what was recorded before the call."""
        for node in nodes:
            origin = self._origins.get(node)
            for past in self._past:
                if (origin or node) in past.nodes and past.node is not origin:
                    raise TraceError(
                        f"compile: the gradient of {(origin or node).name} recorded at {(origin or node).where()} is "
                        f"needed, but the argument {past.name} was computed from it before the call, and a plan cannot "
                        "go back through that; pass cut(argument), or its array"
                    )

    def alone(self, part: object, is_leaf: bool) -> Tensor:
        """Return a value without its past, as a leaf of its own or as a constant for gradients."""
        value = self.value_of(part)
        tensor = wrap(part._array.view() if isinstance(part, Tensor) else np.array(part))
        tensor.requires_grad = is_leaf
        self.know(tensor, value)
        return tensor

    def lift(self, array: Array, edge: Edge) -> Tensor:
        """Return the Tensor at an edge, around an array that a rule kept."""
        return self.know(wrap(array, *edge), self.value_at(edge))

    def looked_up(self, gradient: object) -> tuple[Tensor, Tensor] | None:
        """Return (rows, ids) of which a gradient is made, if it is that of one lookup along the first axis of a table.

        Its own call is left out of the graph where nothing else reads it.
        """
        value = self._values.get(id(gradient))
        call = None if value is None else value.maker
        if call is None or call.name != "take_back" or call.attrs["axis"] or self.frame is not None:
            return None
        rows, ids = call.inputs[0], call.attrs["indices"]
        if not isinstance(rows, Value) or not isinstance(ids, Value):
            return None
        found = self.know(wrap(abstract_array(rows.shape, rows.dtype)), rows)
        return found, self.know(wrap(np.zeros(ids.shape, ids.dtype)), ids)

    def constant(self, name: str, function: Callable[..., object], args: Sequence[object], repeatable: bool) -> Tensor:
        """Append a call of a function without a gradient; its result is a Tensor, so that reading it is noticed."""
        generators = [part for part in args if isinstance(part, np.random.Generator)]
        before = [state_of(generator) for generator in generators]
        made = self.answer(function, [part._array if isinstance(part, Tensor) else part for part in args])
        for generator, state in zip(generators, before, strict=True):
            self._draws.setdefault(id(generator), Draws(generator, state)).drawn(state)
        if made.dtype.kind not in "biufc":
            raise TraceError(f"compile: {name} reads values of a Tensor, which a plan would freeze; call it outside")
        result = wrap(_abstract(made))
        function = cast(Callable[..., object], self._settled(function))
        key = (function, name)
        if key not in self._operators:
            writes = isinstance(function, np.ufunc)
            self._operators[key] = Operator(name, function, writes, repeatable, key=None if writes else key)
        operands = [self.operand(part) for part in args]
        call = Call(self._operators[key], operands, {}, [(result._array.shape, result._array.dtype)], context()[2:4])
        self.append(call)
        self.know(result, call.output)
        return result

    def answer(self, function: Callable[..., object], args: Sequence[object]) -> Array:
        """Return the result of a function without a gradient; for abstract values it is computed from one element."""
        if isinstance(function, np.ufunc) and function.nout == 1:
            shape = np.broadcast_shapes(*(np.shape(cast(Array, part)) for part in args))
            if (made := uniform_elementwise(function, args, shape)) is not None:
                return made
        return np.array(function(*args))

    def accumulated(self, total: object, edge: Edge) -> None:
        """Mark the addition that made a sum as one of cotangents, whose order no user has chosen."""
        value = self._values.get(id(total))
        if value is not None and value.maker is not None and value.maker.name == "add":
            value.maker.cotangent = edge[0].id, edge[1]

    def fixed(self, array: Array) -> Tensor:
        """Return a constant Tensor, such as the cotangent that a backward pass starts with."""
        return self.know(wrap(array), self._constant(array))

    # -- what recording a loop needs ----------------------------------------------------------------------------------

    def append(self, call: Call) -> None:
        """Append a call to the graph, or to the body that is being recorded."""
        (self if self.frame is None else self.frame).calls.append(call)
        if self.frame is not None:
            for value in call.outputs:
                self.homes[value] = self.frame

    def tensor_of(self, part: object) -> Tensor:
        """Return a value as a Tensor."""
        if isinstance(part, Tensor):
            return part
        return self.know(wrap(np.array(part)), self.value_of(part))

    def made_anew(self, value: Value) -> tuple[object, ...] | None:
        """Return dtype, shape and bytes of a captured Tensor without a gradient; None for anything else.

        A step may make such a Tensor again each time.
        """
        leaf = next((leaf for known, leaf in self.captured if known is value), None)
        if not isinstance(leaf, Tensor) or leaf.requires_grad:
            return None
        return leaf.dtype, leaf.shape, leaf._array.tobytes()

    def value_at(self, edge: Edge) -> Value:
        """Return the value that an edge leads to."""
        node, index = edge
        value = self._by_edge.get((node.id, index))
        if value is None and node.operation is None and node.owner is not None and (leaf := node.owner()) is not None:
            value = self._values.get(id(leaf)) or self._capture(leaf)
        if value is None:
            raise TraceError(
                f"compile: {node.name}, recorded at {node.where()}, was recorded before the function was called, but a "
                "gradient goes back through it; pass it to the function as an argument"
            )
        return value

    # -- operands -----------------------------------------------------------------------------------------------------

    def argument(self, array: Array, tensor: Tensor | None, name: str) -> Tensor:
        """Return the Tensor that stands for an argument of the function while it is recorded."""
        value = Value(array.shape, array.dtype, name=name)
        self.inputs.append(value)
        if tensor is None or not tensor.is_leaf:
            tensor = self._stand_in(array, tensor, name)
        self.know(tensor, value)
        return tensor

    def _stand_in(self, array: Array, tensor: Tensor | None, name: str) -> Tensor:
        """Return a Tensor without a past, the same one for the same recorded result."""
        node = None if tensor is None else tensor._node
        if tensor is None or node is None:
            return wrap(np.array(array))
        edge = node.id, tensor._index
        if edge not in self._stand_ins:
            made = self._stand_ins[edge] = wrap(np.array(array))
            made.requires_grad = True
            assert made._node is not None
            self._origins[made._node] = node
            self._past.append(_Past(name, node, frozenset(ancestors([node]))))
        return self._stand_ins[edge]

    def generator(self, rng: np.random.Generator, name: str) -> None:
        """Add a generator among the arguments as an input."""
        value = Value((), np.dtype(object), name=name)
        self.inputs.append(value)
        self._values[id(rng)] = value
        self._held.append(rng)
        self._draws[id(rng)] = Draws(rng)

    def value_of(self, part: object) -> Value:
        """Return the value of a Tensor, or of something that becomes an array."""
        value = self.operand(part if isinstance(part, Tensor) else np.asarray(part))
        assert isinstance(value, Value)
        return value

    def operand(self, part: object) -> object:
        """Return the value of a Tensor or an array in the graph that is being recorded; a Python number as it is."""
        value = self._found(part)
        if not isinstance(value, Value) or value.constant is not None or self.homes.get(value) is self.frame:
            return value
        if self.frame is None:
            raise leaked()
        return self.frame.here(value, self.homes)

    def _found(self, part: object) -> object:
        """Return the value of an operand, whatever frame it belongs to."""
        if isinstance(part, Tensor):
            return self._values.get(id(part)) or self._of_edge(part)
        if isinstance(part, _ARRAYS):
            return self._constant(np.asarray(part))
        if isinstance(part, np.random.Generator):
            value = self._values.get(id(part))
            if value is None:
                value = self._values[id(part)] = Value((), np.dtype(object), name="generator")
                self.captured.append((value, part))
            return value
        return self._settled(part)  # a Python number, a shape, a dtype: frozen

    def _of_edge(self, tensor: Tensor) -> Value:
        """Return the value of a Tensor that is known by its edge, or that is captured."""
        node = tensor._node
        value = None if node is None else self._by_edge.get((node.id, tensor._index))
        if value is not None:
            return value
        if node is not None and not tensor.is_leaf:
            raise TraceError(
                f"compile: a result of {node.name}, recorded at {node.where()}, was computed before the function was "
                "called; pass it as an argument"
            )
        return self._capture(tensor)

    def _input(self, part: object, name: str) -> object:
        """Return an operand of a primitive: lists, and numbers that are joined with arrays, as arrays."""
        joined = name in ("stack", "concatenate") and not isinstance(part, Tensor)
        return self.operand(np.asarray(part) if joined or isinstance(part, list | tuple) else part)

    def _attribute(self, part: object) -> object:
        if type(part) in _PLAIN:
            return part
        return self.operand(part) if isinstance(part, Tensor) else self._settled(part)

    def _settled(self, part: object) -> object:
        """Return a part to freeze in the plan; arrays and lists are copied, so that later changes have no effect."""
        if isinstance(part, list):
            return [*map(self._settled, part)]
        if type(part) is tuple:
            return tuple(map(self._settled, part))
        if isinstance(part, partial):
            return partial(part.func, *part.args, **{name: self._settled(one) for name, one in part.keywords.items()})
        if not isinstance(part, np.ndarray) or is_fixed(part):
            return part
        self.seen(part)
        return np.array(part)

    def seen(self, array: Array) -> None:
        """Record an array of the caller's of which a copy is used."""
        self.outside.append((array, None))

    def rewind(self) -> None:
        """Restore the state of every generator: the replay draws again what was drawn."""
        self._drawn = self._others.restore()
        for draws in self._draws.values():
            if draws.unseen:
                self._drawn = self._drawn or "a generator"
            draws.rewind()

    def check_draws(self) -> None:
        """Refuse draws that no operation of the graph makes; called after `rewind`.

        Raises:
            TraceError: if there are some.
        """
        if self._drawn is not None:
            raise TraceError(
                f"compile: the function draws from {self._drawn} by itself; what it drew would be frozen in the plan. "
                "Draw outside and pass the array, or use Dropout, which draws anew at each replay; a trainer runs "
                "without plans under compile=False"
            )

    def _constant(self, array: Array) -> Value:
        """Return the value of an array as it is now: the function may write to it, and use it again."""
        _, value = self._constants.get(id(array), (None, None))
        if value is None or value.constant is None or not same(array, value.constant):
            frozen = np.array(array)
            value = Value(frozen.shape, frozen.dtype, constant=frozen)
            self._constants[id(array)] = array, value
            self.outside.append((array, frozen))
        return value

    def _capture(self, leaf: Tensor) -> Value:
        """Return the value of a Tensor that the function captures; each replay reads it."""
        value = Value(leaf._array.shape, leaf._array.dtype, name=leaf.name or "")
        self.captured.append((value, leaf))
        self.know(leaf, value)
        return value

    def know(self, tensor: Tensor, value: Value) -> Tensor:
        """Record the value of a Tensor; return the Tensor."""
        self._values[id(tensor)] = value
        self._held.append(tensor)
        if tensor._node is not None:
            self._by_edge[tensor._node.id, tensor._index] = value
        return tensor


class _Past(NamedTuple):
    """An argument that was computed before the call: its name, its node, and all that it was computed from."""

    name: str
    node: Node
    nodes: frozenset[Node]


def _abstract(array: Array) -> Array:
    return abstract_array(array.shape, array.dtype) if array.dtype.kind in "fc" else array
