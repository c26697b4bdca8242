"""The graph of a recorded function: calls on values, which passes rewrite and plans are made from.

A `Value` is an array that does not exist yet: its shape, its dtype and the call that computes it. A `Call` is one
operation: its operator (a primitive of the package, a function without a gradient, or a kernel that a pass added), its
operands, its attributes. A `Graph` is a list of calls in topological order. Only constants hold arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...engine.tape import Array
from .abstract import Spec, Specs, specs_of
from .arrays import DType, Shape, abstract_array

Origin = tuple[int | None, tuple[str, ...]]
"""Where a call was recorded: the time step, and the names of the modules."""

Attrs = dict[str, Any]
"""Attributes of an operation by name; their meaning is known to the operation, and to passes that know it by name."""

_numbers = itertools.count()


class Value:
    """An array of a plan: a result of a call, an input, or a constant.

    Attributes:
        shape, dtype: of the array.
        maker: the call that computes it; None for inputs and constants.
        index: its position among the results of that call.
        constant: the array of a constant, else None.
        name: of an input or a parameter, for drawings and `explain`.
        folded: for a constant that a pass computed, the (call, index) whose result it was; else None.
    """

    __slots__ = ("constant", "dtype", "folded", "index", "maker", "name", "number", "shape")

    def __init__(
        self,
        shape: Shape,
        dtype: DType,
        maker: Call | None = None,
        index: int = 0,
        constant: Array | None = None,
        name: str = "",
    ) -> None:
        self.shape, self.dtype, self.maker, self.index = shape, dtype, maker, index
        self.constant, self.name, self.number = constant, name, next(_numbers)
        self.folded: tuple[Call, int] | None = None

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        return self.shape, self.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        what = self.name or ("const" if self.constant is not None else f"v{self.number}")
        return f"{what}{list(self.shape)}"


class Operator:
    """What a call computes: a name, and a function `compute(*arrays, out=None, **attrs)`.

    Attributes:
        name: for messages, drawings and `explain`.
        compute: the function on arrays; returns its result, or a tuple of results.
        writes: whether it takes `out=`: an array, or a tuple of arrays if it has several results.
        pure: whether equal operands give equal results, so that equal calls can be merged.
        over: index of the result that may be written over the first operand, or None.
        parts: whether it takes `each=`, which spreads blocks of its work over several threads.
        multiple: whether it returns a tuple, even of a single result (an `unstack` into one part).
        key: its identity: the name for operators of the package, which passes know by name.
    """

    __slots__ = ("compute", "key", "multiple", "name", "over", "parts", "pure", "writes")

    def __init__(
        self,
        name: str,
        compute: Callable[..., object],
        writes: bool = False,
        pure: bool = True,
        over: int | None = None,
        key: object = None,
        parts: bool = False,
        multiple: bool = False,
    ) -> None:
        self.name, self.compute, self.writes, self.pure, self.over = name, compute, writes, pure, over
        self.parts, self.multiple = parts, multiple
        self.key = name if key is None else key

    def results(self, made: object) -> tuple[Any, ...]:
        """Return what `compute` returned, or what it takes as `out=`, as a tuple of one entry for each result."""
        return tuple(cast(Iterable[object], made)) if self.multiple else (made,)

    def __repr__(self) -> str:
        return self.name


class Call:
    """One operation of a graph.

    Attributes:
        operator: what is computed.
        inputs: operands: values, and Python numbers.
        attrs: attributes; one of them may be a Value (ids of a lookup).
        outputs: its results.
        place: where it was recorded; (None, ()) if a pass added it.
        cotangent: for an addition that the engine made, the (node id, output) whose cotangent it adds a term to; None
            for a sum that the user wrote, whose order is kept.
    """

    __slots__ = ("attrs", "cotangent", "inputs", "operator", "outputs", "place")

    def __init__(
        self,
        operator: Operator,
        inputs: Iterable[object],
        attrs: Attrs,
        specs: Iterable[tuple[Shape, DType]],
        place: Origin = (None, ()),
    ) -> None:
        self.operator, self.attrs, self.place = operator, attrs, place
        self.inputs: tuple[Any, ...] = tuple(inputs)
        self.cotangent: tuple[int, int] | None = None
        self.outputs = tuple([Value(shape, dtype, self, index) for index, (shape, dtype) in enumerate(specs)])

    @property
    def name(self) -> str:
        """Name of the operator."""
        return self.operator.name

    @property
    def step(self) -> int | None:
        """Time step it was recorded at, or None."""
        return self.place[0]

    @property
    def output(self) -> Value:
        """The only result."""
        (output,) = self.outputs
        return output

    def values(self) -> list[Value]:
        """Return the values that it reads, inputs before attributes."""
        found = [part for part in self.inputs if type(part) is Value]
        for part in self.attrs.values():
            if type(part) is Value:
                found.append(part)
            elif type(part) is tuple:
                found += [inner for inner in part if type(inner) is Value]
        return found

    def __repr__(self) -> str:
        attrs = ", ".join(f"{k}={v!r}" for k, v in self.attrs.items() if not isinstance(v, np.ndarray))
        inputs = ", ".join(map(repr, self.inputs))
        return f"{', '.join(map(repr, self.outputs))} = {self.name}({inputs}{'; ' if attrs else ''}{attrs})"


@dataclass
class Graph:
    """A recorded function.

    Attributes:
        inputs: values of the arguments.
        calls: in topological order.
        outputs: values that are returned.
        captured: values of parameters and generators that are used without being arguments.
        skeleton: of the body of a loop that several recordings share, so that nobody may write into it; see `own`.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    captured: list[Value] = field(default_factory=list)
    skeleton: object = None

    def uses(self) -> dict[Value, list[Call]]:
        """Return for each value the calls that read it; a call that reads it twice is listed twice."""
        found: dict[Value, list[Call]] = {}
        for call in self.calls:
            for value in call.values():
                found.setdefault(value, []).append(call)
        return found

    def with_calls(self, calls: Iterable[Call]) -> Graph:
        """Return a graph of these calls with the same inputs and outputs."""
        return Graph(self.inputs, list(calls), self.outputs, self.captured)

    def release(self) -> None:
        """Break the reference cycles of values and calls, which only the garbage collector would free."""
        for call in self.calls:
            if call.name == "loop" and call.attrs["body"].graph.skeleton is None:
                call.attrs["body"].graph.release()
            for value in call.outputs:
                value.maker = None

    def __str__(self) -> str:
        return "\n".join(line for call in self.calls for line in _lines(call))


def _lines(call: Call) -> list[str]:
    """Return a call as text; the lines of a loop are followed by those of its body, indented."""
    if call.name != "loop":
        return [repr(call)]
    body: Body = call.attrs["body"]
    graph, n, m = body.graph, body.carried, body.carried + body.sliced
    sliced = zip(graph.inputs[n:m], call.inputs[n:m], strict=True)
    constants = zip(graph.inputs[m:], call.inputs[m:], strict=True)
    carried = zip(graph.inputs[:n], call.inputs[:n], strict=True)
    lines = [f"{inner!r} carried, at first {outer!r}" for inner, outer in carried]
    lines += [f"{inner!r} = {outer!r}[t]" for inner, outer in sliced]
    lines += [f"{inner!r} = {outer!r}" for inner, outer in constants if repr(inner) != repr(outer)]
    lines += str(graph).splitlines()
    after = zip(graph.inputs[:n], graph.outputs[:n], strict=True)
    lines += [f"next step: {old!r} is {new!r}" for old, new in after]
    lines += [
        f"all t: {stack!r} of {value!r}" for value, stack in zip(graph.outputs[n:], call.outputs[n:], strict=True)
    ]
    return [repr(call), *(f"    {line}" for line in lines)]


@dataclass(frozen=True)
class Body:
    """What a loop does at each step: the attribute `body` of a call of `LOOP`.

    The call's inputs are, in this order, the initial carried values, arrays (T, ...) that are sliced along their first
    axis, and constants, which are the same at each step. Its outputs are the carried values after the last step, and
    then what each step returns, stacked to (T, ...).

    Attributes:
        graph: of one step. Its inputs correspond to the call's: carried values before the step, slices, constants. Its
            outputs are the carried values after the step, in the same order, shapes and dtypes, and what the step
            returns. It reads no value of the graph around it.
        carried: how many values are carried.
        sliced: how many arrays are sliced.
        steps: T, at least 1.
        reverse: whether the steps run from T - 1 down to 0; slices and stacks stay in the order of time.
    """

    graph: Graph
    carried: int
    sliced: int
    steps: int
    reverse: bool = False

    def __repr__(self) -> str:
        return f"{self.steps} {'step' if self.steps == 1 else 'steps'}{' in reverse' if self.reverse else ''}"


def _no_loop(*_: object, **__: object) -> object:
    raise RuntimeError("compile: the operator of a loop cannot be called; run the graph of its body for each step")


LOOP = Operator("loop", _no_loop, multiple=True)
"""A loop over time; see `Body`."""

LOOP_WITH_DRAWS = Operator("loop", _no_loop, pure=False, multiple=True)
"""A loop whose body draws from a generator."""


class Rewriter:
    """Builds a new graph call by call, with values replaced: the basis of most passes.

    It consumes the old graph: calls that are kept become part of the new one, their operands replaced in place.

    `now` maps values of the old graph to their replacements; `place` is the origin that new calls get.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.place: Origin = (None, ())
        self.calls: list[Call] = []
        self.now: dict[Value, Any] = {}

    def get(self, part: object) -> Any:
        """Return the replacement of an operand of the old graph, or the operand itself."""
        return self.now.get(part, part) if type(part) is Value else part

    def call(
        self,
        operator: Operator,
        inputs: Iterable[object],
        attrs: Attrs | None = None,
        specs: Specs | None = None,
        place: Origin | None = None,
    ) -> Call:
        """Append a new call, whose operands are values of the new graph."""
        inputs, attrs = tuple(inputs), attrs or {}
        specs = infer(operator, inputs, attrs) if specs is None else specs
        new = Call(operator, inputs, attrs, specs, place or self.place)
        self.calls.append(new)
        return new

    def keep(self, call: Call) -> Call:
        """Append a call of the old graph, replacing its operands in place."""
        now = self.now
        if now:
            for part in call.inputs:
                if type(part) is Value and part in now:
                    call.inputs = tuple(map(self.get, call.inputs))
                    break
            for part in call.attrs.values():
                if type(part) is Value or type(part) is tuple:
                    call.attrs = map_attrs(self.get, call.attrs)
                    break
        self.calls.append(call)
        return call

    def done(self) -> Graph:
        """Return the new graph."""
        return Graph(self.graph.inputs, self.calls, [self.get(v) for v in self.graph.outputs], self.graph.captured)


def map_parts(function: Callable[[object], object], part: object) -> object:
    """Return an attribute with `function` applied to it, or to the parts of a tuple (an index)."""
    return tuple(map(function, part)) if type(part) is tuple else function(part)


def map_attrs(function: Callable[[object], object], attrs: Attrs) -> Attrs:
    """Return attributes with `function` applied to each, or to its parts."""
    return {name: map_parts(function, part) for name, part in attrs.items()}


def infer(operator: Operator, inputs: Iterable[object], attrs: Attrs) -> Specs:
    """Return shape and dtype of each result of an operator, without computing anything large if a rule knows it."""
    parts = tuple(inputs)
    known = specs_of(operator.key, operator.compute, parts, attrs)
    return [(part.shape, part.dtype) for part in _made(operator, parts, attrs)] if known is None else known


def _made(operator: Operator, inputs: tuple[object, ...], attrs: Attrs) -> list[Array]:
    """Call an operator on abstract values."""

    def ones(part: object) -> object:
        if not isinstance(part, Value):
            return part
        return abstract_array(part.shape, part.dtype) if part.constant is None else part.constant

    with np.errstate(all="ignore"):
        made = operator.compute(*map(ones, inputs), **map_attrs(ones, attrs))
    return [np.asarray(part) for part in operator.results(made)]
