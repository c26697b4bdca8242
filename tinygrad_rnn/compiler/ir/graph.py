"""The graph of a recorded function: calls on values. Passes rewrite it, and a plan is made of it.

A `Value` is an array that does not exist yet: its shape, its dtype and the call that makes it. A `Call` is one
operation: what is computed (a primitive of the package, a function without a gradient, or a kernel that a pass put
in), its operands, its attributes. A `Graph` is the calls in an order in which each follows those it needs. Nothing in
here holds the data of a step; only constants have arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...engine.tape import Array
from .abstract import Specs, specs_of
from .arrays import DType, Shape, abstract_array

Origin = tuple[int | None, tuple[str, ...]]
"""Where a call was recorded: the time step, and the names of the modules."""

Attrs = dict[str, Any]
"""Attributes of an operation by name. What each is, only the operation knows, and a pass that knows it by name."""

_numbers = itertools.count()


class Value:
    """An array of a plan: a result of a call, an input, or a constant.

    Attributes:
        shape, dtype: of the array.
        maker: the call that computes it; None for inputs and constants.
        index: which of its maker's results it is.
        constant: the array of a constant, else None.
        name: of an input or a parameter, for drawings and `explain`.
        folded: (call, index) of a constant that was computed in advance: what it was a result of.
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
        compute: on arrays; returns its result, or a tuple of them if it has several.
        writes: whether it takes `out=`: an array, or a tuple of them if it has several results.
        pure: whether it computes the same from the same, so that equal calls can be one.
        over: number of the result that may be written over the first operand, or None.
        parts: whether it takes `each=`, to work on parts of its arrays on several threads.
        multiple: whether its results are a tuple, even where there is only one (an `unstack` into one part).
        key: what it is told apart by: its name, if it is one of the package's own, which passes know by name.
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
        """Return what `compute` returned, or what it takes as `out=`, as a tuple with one entry for each result."""
        return tuple(cast(Iterable[object], made)) if self.multiple else (made,)

    def __repr__(self) -> str:
        return self.name


class Call:
    """One operation of a graph.

    Attributes:
        operator: what is computed.
        inputs: operands: values, and Python numbers.
        attrs: attributes; one of them may be a Value (ids of a lookup).
        outputs: the values it makes.
        place: where it was recorded; (None, ()) where a pass put it in.
        cotangent: of an addition that the engine made, the place (node id, output) whose cotangent it adds a term to;
            None where the user wrote the sum, whose order is then kept.
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
        self.inputs: tuple[Any, ...] = tuple(inputs)  # values and numbers, as the operator takes them
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

    def values(self) -> Iterator[Value]:
        """Yield the values that it reads, operands first."""
        for part in itertools.chain(self.inputs, self.attrs.values()):
            if isinstance(part, Value):
                yield part
            elif isinstance(part, tuple):
                yield from (inner for inner in part if isinstance(inner, Value))

    def __repr__(self) -> str:
        attrs = ", ".join(f"{k}={v!r}" for k, v in self.attrs.items() if not isinstance(v, np.ndarray))
        inputs = ", ".join(map(repr, self.inputs))
        return f"{', '.join(map(repr, self.outputs))} = {self.name}({inputs}{'; ' if attrs else ''}{attrs})"


@dataclass
class Graph:
    """A recorded function.

    Attributes:
        inputs: values that a call of the function brings.
        calls: in an order in which each follows those that it needs.
        outputs: values that are returned.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    captured: list[Value] = field(default_factory=list)

    def uses(self) -> dict[Value, list[Call]]:
        """Return for each value the calls that read it, once for each place where they do."""
        found: dict[Value, list[Call]] = {}
        for call in self.calls:
            for value in call.values():
                found.setdefault(value, []).append(call)
        return found

    def with_calls(self, calls: Iterable[Call]) -> Graph:
        """Return a graph of these calls with the same inputs and outputs."""
        return Graph(self.inputs, list(calls), self.outputs, self.captured)

    def release(self) -> None:
        """Let go of the graph: values and calls refer to each other, which only the garbage collector would find."""
        for call in self.calls:
            if call.name == "loop":
                call.attrs["body"].graph.release()
            for value in call.outputs:
                value.maker = None

    def __str__(self) -> str:
        return "\n".join(line for call in self.calls for line in _lines(call))


def _lines(call: Call) -> list[str]:
    """Return a call in words, and below a loop, further in, what it does at each step."""
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

    The call's inputs are, in this order, what the carried values are before the first step, arrays (T, ...) that are
    sliced along their first axis, and constants, which are the same at each step. Its outputs are the carried values
    after the last step, and then what each step returns, stacked to (T, ...).

    Attributes:
        graph: of one step. Its inputs stand for the call's: carried values as they are before the step, slices,
            constants. Its outputs are the carried values after the step, in the same order, shapes and dtypes, and what
            the step returns. It reads no value of the graph around it.
        carried: how many values are carried.
        sliced: how many arrays are sliced.
        steps: T, at least 1.
        reverse: whether the steps are taken from T - 1 down to 0; slices and stacks stay in the order of time.
    """

    graph: Graph
    carried: int
    sliced: int
    steps: int
    reverse: bool = False

    def __repr__(self) -> str:
        return f"{self.steps} {'step' if self.steps == 1 else 'steps'}{' in reverse' if self.reverse else ''}"


def _no_loop(*_: object, **__: object) -> object:
    raise RuntimeError("compile: a loop has no function of its own; executors go through its body")


LOOP = Operator("loop", _no_loop, multiple=True)
"""A loop over time; see `Body`."""

LOOP_WITH_DRAWS = Operator("loop", _no_loop, pure=False, multiple=True)
"""A loop whose body draws from a generator."""


class Rewriter:
    """Walks over a graph call by call, with replacements: the frame of most passes.

    The graph that it is given is used up: calls that stay are taken over, with new operands.

    `self.now[value]` is what stands for an old value in the new graph, `self.place` where new calls belong.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.place: Origin = (None, ())
        self.calls: list[Call] = []
        self.now: dict[Value, Any] = {}

    def get(self, part: object) -> Any:
        """Return what an operand of the old graph is in the new one."""
        return self.now.get(part, part) if isinstance(part, Value) else part

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
        """Append a call as it is, its operands replaced by what stands for them now. The call is written to."""
        now = self.now
        if now:
            for part in call.inputs:
                if isinstance(part, Value) and part in now:
                    call.inputs = tuple(map(self.get, call.inputs))
                    break
            if any(isinstance(part, Value | tuple) for part in call.attrs.values()):
                call.attrs = {name: map_parts(self.get, part) for name, part in call.attrs.items()}
        self.calls.append(call)
        return call

    def done(self) -> Graph:
        """Return the new graph."""
        return Graph(self.graph.inputs, self.calls, [self.get(v) for v in self.graph.outputs], self.graph.captured)


def map_parts(function: Callable[[object], object], part: object) -> object:
    """Return an attribute with `function` applied to it, or to the parts of a tuple (an index)."""
    return tuple(map(function, part)) if type(part) is tuple else function(part)


def infer(operator: Operator, inputs: Iterable[object], attrs: Attrs) -> Specs:
    """Return shapes and dtypes of what an operator makes, as far as possible without computing anything large."""
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
        made = operator.compute(*map(ones, inputs), **{name: map_parts(ones, part) for name, part in attrs.items()})
    return [np.asarray(part) for part in operator.results(made)]
