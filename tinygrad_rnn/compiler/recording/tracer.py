"""The tracer: is shown all that is computed on Tensors while a function runs, and makes calls of a graph of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...engine.arrays import is_fixed
from ...engine.tape import Array, Node, context
from ...engine.tensor import Tensor, wrap
from ...engine.walk import ancestors
from ...errors import TraceError
from ..ir.abstract import counted, hollow, of_one, specs_of
from ..ir.graph import Call, Operator, Value, map_parts
from ..ir.operators import operator_of
from ..ir.table import ELEMENTWISE
from .draws import Dice, Draws
from .frames import Frame, leaked
from .loops import NotALoopError, record_loop
from .outside import same

Place = tuple[int, int]

_PLAIN = frozenset({int, bool, float, str, type(None)})  # types of attributes that stay what they are


class Tracer:
    """Takes note of every operation while a function runs; see `trace`."""

    def __init__(self, named: Sequence[Any] = ()) -> None:
        self.calls: list[Call] = []
        self._frame: Frame | None = None  # the body of a loop that is being recorded
        self._frames: dict[Value, Frame] = {}  # of values that are not of the graph around all loops
        self.captured: list[tuple[Value, Any]] = []
        self._values: dict[int, Value] = {}  # by id of a Tensor
        self._places: dict[Place, Value] = {}  # by node and output: a rule sees new Tensors of kept arrays
        self._held: list[Any] = []  # keeps what is known by id alive
        self._constants: dict[int, tuple[Array, Value]] = {}  # by id of an array: the array, and what it held last
        self.outside: list[tuple[Array, Array | None]] = []  # arrays of the caller's, and copies of them
        self._operators: dict[Any, Operator] = {}
        self._draws: dict[int, Draws] = {}
        self._past: list[_Past] = []  # of arguments that were computed before the call
        self._origins: dict[Node, Node] = {}  # from what stands for such an argument to what it was
        self._stand_ins: dict[Place, Tensor] = {}
        self.inputs: list[Value] = []
        self._dice = Dice(named)
        self._drawn: str | None = None  # what the function drew from by itself
        for part in named:
            if isinstance(part, np.random.Generator):
                self._draws[id(part)] = Draws(part, copy.deepcopy(part.bit_generator.state))
            elif isinstance(part, np.ndarray):
                self.seen(part)

    # -- what the engine calls ----------------------------------------------------------------------------------------

    def record(self, operation: Any, inputs: Sequence[Any], attrs: dict[str, Any], results: Sequence[Tensor]) -> None:
        """Append a call of a primitive."""
        joined = operation.name in ("stack", "concatenate")
        call = Call(
            operator_of(operation),
            [self._input(part, joined) for part in inputs],
            {name: map_parts(self._attribute, part) for name, part in attrs.items()} if attrs else {},
            [(part._array.shape, part._array.dtype) for part in results],
            context()[2:4],
        )
        self.append(call)
        for result, value in zip(results, call.outputs, strict=True):
            self._know(result, value)

    def abstract(self, operation: Any, values: Sequence[Any], attrs: dict[str, Any]) -> tuple[Array, ...] | None:
        """Return hollow arrays of the shapes and dtypes that an operation gives; None if it must be computed.

        It must be if no rule says what it gives, if it is wrong (it raises then), and if it gives integers.
        """
        operator = operator_of(operation)
        specs = specs_of(operator.name, operator.compute, values, attrs)
        if specs is None:
            return None
        outputs = [hollow(shape, dtype) for shape, dtype in specs if dtype.kind in "fc"]
        if len(outputs) == len(specs):
            return tuple(outputs)
        if operator.name in ELEMENTWISE:
            made = of_one(partial(operator.compute, **attrs), values, specs[0][0])
        else:
            made = counted(operator.name, values[0], specs[0])
        return None if made is None else (made,)

    def hollow(self, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return arrays that take no memory in place of floating point outputs: nobody may read them.

        Integers and booleans stay what they are, since checks of ids look at them.
        """
        return tuple(_hollow(part) for part in outputs)

    def wanted(self, nodes: Sequence[Node]) -> None:
        """Refuse gradients that would go back through what was recorded before the call."""
        for node in nodes:
            origin = self._origins.get(node)
            for past in self._past:
                if (origin or node) in past.nodes and past.node is not origin:
                    raise TraceError(
                        f"compile: the gradient of {(origin or node).name} recorded at {(origin or node).where()} is "
                        f"wanted, and the argument {past.name} was computed from it before the call, which a plan "
                        "cannot go back through; pass cut(argument), or its array"
                    )

    def alone(self, part: Any, is_leaf: bool) -> Tensor:
        """Return a value without what it was computed from: as a leaf of its own, or as a constant for the gradient."""
        value = self._operand(part)
        tensor = wrap(part._array.view() if isinstance(part, Tensor) else np.array(part))
        tensor.requires_grad = is_leaf
        self._know(tensor, value)
        return tensor

    def lift(self, array: Array, place: tuple[Node, int]) -> Tensor:
        """Return the Tensor at a place of the graph, around an array that its rule kept."""
        tensor = wrap(array, *place)
        self._know(tensor, self.value_at(place))
        return tensor

    def constant(self, name: str, function: Callable[..., Any], args: Sequence[Any], repeatable: bool) -> Any:
        """Append a call of a function without a gradient; its result is a Tensor, so that nobody reads it unseen."""
        generators = [part for part in args if isinstance(part, np.random.Generator)]
        before = [copy.deepcopy(generator.bit_generator.state) for generator in generators]
        made = _computed(function, [part._array if isinstance(part, Tensor) else part for part in args])
        for generator, state in zip(generators, before, strict=True):
            self._draws.setdefault(id(generator), Draws(generator, state)).drawn(state)
        if made.dtype.kind not in "biufc":
            raise TraceError(f"compile: {name} reads the values of a Tensor; they would be frozen in the plan")
        result = wrap(_hollow(made))
        function = self._settled(function)
        key = (function, name)
        if key not in self._operators:
            writes = isinstance(function, np.ufunc)
            self._operators[key] = Operator(name, function, writes, repeatable, key=None if writes else key)
        operands = [self._operand(part) for part in args]
        call = Call(self._operators[key], operands, {}, [(result._array.shape, result._array.dtype)], context()[2:4])
        self.append(call)
        self._know(result, call.output)
        return result

    def accumulated(self, total: Any, place: tuple[Node, int]) -> None:
        """Mark the addition that made a sum: it adds a term to a cotangent, and nobody wrote its order down."""
        value = self._values.get(id(total))
        if value is not None and value.maker is not None and value.maker.name == "add":
            value.maker.cotangent = place[0].id, place[1]

    def fixed(self, array: Array) -> Tensor:
        """Return a Tensor that is the same at each replay: a cotangent that a backward pass starts with."""
        tensor = wrap(array)
        self._know(tensor, self._constant(array))
        return tensor

    # -- loops: see `loops.Recorder` ----------------------------------------------------------------------------------

    def loop(
        self, step: Callable[..., Any], carried: Sequence[Any], slices: Sequence[Any], steps: int, reverse: bool
    ) -> tuple[list[Any], list[Any]] | None:
        """Record a loop over time, but within another one, or where a body cannot stand for all steps: then None."""
        if self._frame is not None:
            return None
        try:
            return record_loop(self, step, [*map(self._tensor, carried)], [*map(self._tensor, slices)], steps, reverse)
        except NotALoopError:
            return None

    def _tensor(self, part: Any) -> Tensor:
        return part if isinstance(part, Tensor) else self.known(wrap(np.array(part)), self._operand(part))

    def append(self, call: Call) -> None:
        """Append a call to the graph, or to the body that is being recorded."""
        if self._frame is None:
            self.calls.append(call)
        else:
            self._frame.calls.append(call)
            for value in call.outputs:
                self._frames[value] = self._frame

    def opened(self, frame: Frame | None) -> Frame | None:
        """Let calls go into a body (None: into the graph); return where they went before."""
        before, self._frame = self._frame, frame
        return before

    def operand(self, part: Any) -> Any:
        """Return the value of a Tensor or an array where calls go just now."""
        return self._operand(part)

    def known(self, tensor: Tensor, value: Value) -> Tensor:
        """Take note of the value of a Tensor; return the Tensor."""
        self._know(tensor, value)
        return tensor

    def settle(self, value: Value, frame: Frame) -> Value:
        """Take note that a value belongs to a body."""
        self._frames[value] = frame
        return value

    def made_anew(self, value: Value) -> Any:
        """Return dtype, shape and bytes of a Tensor without a gradient that is used without being given; else None."""
        leaf = next((leaf for known, leaf in self.captured if known is value), None)
        if not isinstance(leaf, Tensor) or leaf.requires_grad:
            return None
        return leaf.dtype, leaf.shape, leaf._array.tobytes()

    def frame_of(self, value: Value) -> Frame | None:
        """Return the body that a value belongs to; None: the graph."""
        return self._frames.get(value)

    def value_at(self, place: tuple[Node, int]) -> Value:
        """Return the value at a place of the tape."""
        node, index = place
        value = self._places.get((node.id, index))
        if value is None and node.operation is None and node.owner is not None and (leaf := node.owner()) is not None:
            value = self._values.get(id(leaf)) or self._capture(leaf)
        if value is None:
            raise TraceError(
                f"compile: {node.name}, recorded at {node.where()}, was recorded before the function was called, and a "
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
        self._know(tensor, value)
        return tensor

    def _stand_in(self, array: Array, tensor: Tensor | None, name: str) -> Tensor:
        """Return a Tensor that has no past, the same one for the same result of something recorded."""
        node = None if tensor is None else tensor._node
        if tensor is None or node is None:
            return wrap(np.array(array))
        place = node.id, tensor._index
        if place not in self._stand_ins:
            made = self._stand_ins[place] = wrap(np.array(array))
            made.requires_grad = True
            assert made._node is not None
            self._origins[made._node] = node
            self._past.append(_Past(name, node, frozenset(ancestors([node]))))
        return self._stand_ins[place]

    def generator(self, rng: np.random.Generator, name: str) -> None:
        """Take note of a generator among the arguments."""
        value = Value((), np.dtype(object), name=name)
        self.inputs.append(value)
        self._values[id(rng)] = value
        self._held.append(rng)
        self._draws[id(rng)] = Draws(rng, copy.deepcopy(rng.bit_generator.state))

    def value_of(self, part: Any) -> Value:
        """Return the value of a result of the function."""
        return self._operand(part) if isinstance(part, Tensor) else self._constant(np.asarray(part))

    def _operand(self, part: Any) -> Any:
        value = self._found(part)
        if not isinstance(value, Value) or value.constant is not None:
            return value
        home, frame = self._frames.get(value), self._frame
        if home is frame:
            return value
        if frame is None:
            raise leaked()
        return frame.here(value, home, self)

    def _found(self, part: Any) -> Any:
        """Return the value of an operand, whatever frame it belongs to."""
        if isinstance(part, Tensor):
            value = self._values.get(id(part))
            if value is None and part._node is not None:
                value = self._places.get((part._node.id, part._index))
                if value is None and part.is_leaf:
                    value = self._capture(part)
                elif value is None:
                    raise TraceError(
                        f"compile: a result of {part._node.name}, recorded at {part._node.where()}, was computed "
                        "before the function was called; pass it as an argument"
                    )
            return self._capture(part) if value is None else value
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
        return self._settled(part)  # a Python number, a shape, a dtype: frozen

    def _input(self, part: Any, joined: bool) -> Any:
        """Return an operand of a primitive: lists, and numbers that are joined with arrays, as arrays."""
        value = self._values.get(id(part))
        if value is not None and self._frames.get(value) is self._frame:
            return value
        array = isinstance(part, list | tuple) or (joined and not isinstance(part, Tensor))
        return self._operand(np.asarray(part) if array else part)

    def _attribute(self, part: Any) -> Any:
        if type(part) in _PLAIN:
            return part
        return self._operand(part) if isinstance(part, Tensor) else self._settled(part)

    def _settled(self, part: Any) -> Any:
        """Return what is frozen in the plan, so that nobody can change it: arrays and lists are copied."""
        if isinstance(part, list) or type(part) is tuple:
            return type(part)(map(self._settled, part))
        if isinstance(part, partial):
            return partial(part.func, *part.args, **{name: self._settled(one) for name, one in part.keywords.items()})
        if not isinstance(part, np.ndarray) or is_fixed(part):
            return part
        self.seen(part)
        return np.array(part)

    def seen(self, array: Array) -> None:
        """Take note of an array of the caller's of which a copy is used."""
        self.outside.append((array, None))

    def rewind(self) -> None:
        """Give every generator back the state that it had: what was drawn is drawn again by the replay."""
        self._drawn = self._dice.give_back()
        for draws in self._draws.values():
            if draws.unseen:
                self._drawn = self._drawn or "a generator"
            draws.rewind()

    def check_draws(self) -> None:
        """Refuse draws that no operation of the graph makes; to be called after `rewind`.

        Raises:
            TraceError: if there are some.
        """
        if self._drawn is not None:
            raise TraceError(
                f"compile: the function draws from {self._drawn} by itself; what it drew would be frozen in the plan. "
                "Draw outside and pass the array, or use Dropout, which draws anew at each replay"
            )

    def _constant(self, array: Array) -> Value:
        """Return the value of an array as it is now: it may be filled anew, and used again, while the function runs."""
        _, value = self._constants.get(id(array), (None, None))
        if value is None or value.constant is None or not same(array, value.constant):
            frozen = np.array(array)
            value = Value(frozen.shape, frozen.dtype, constant=frozen)
            self._constants[id(array)] = array, value
            self.outside.append((array, frozen))
        return value

    def _capture(self, leaf: Tensor) -> Value:
        """Return the value of a Tensor that the function uses without being given it: read anew at each replay."""
        value = Value(leaf._array.shape, leaf._array.dtype, name=leaf.name or "")
        self.captured.append((value, leaf))
        self._know(leaf, value)
        return value

    def _know(self, tensor: Tensor, value: Value) -> None:
        self._values[id(tensor)] = value
        self._held.append(tensor)
        if tensor._node is not None:
            self._places[tensor._node.id, tensor._index] = value


class _Past(NamedTuple):
    """An argument that was computed before the call: its name, its node, and all that it was computed from."""

    name: str
    node: Node
    nodes: frozenset[Node]


def _hollow(array: Array) -> Array:
    return hollow(array.shape, array.dtype) if array.dtype.kind in "fc" else array


def _computed(function: Callable[..., Any], args: Sequence[Any]) -> Array:
    """Return what a function without a gradient gives, of a comparison of hollow arrays one element."""
    if isinstance(function, np.ufunc) and function.nout == 1:
        shape = np.broadcast_shapes(*map(np.shape, args))
        if (made := of_one(function, args, shape)) is not None:
            return made
    return np.array(function(*args))
