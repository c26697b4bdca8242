"""A recorded function with names: the graph that every format is written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from ..compiler.ir.arrays import DType, Shape
from ..compiler.ir.graph import Graph, Value
from ..compiler.passes import PASSES
from ..compiler.passes import run as run_passes
from ..compiler.plans.layout import make_plan
from ..compiler.plans.plan import Plan
from ..compiler.recording.trace import ARRAY, trace
from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..engine.tree import flatten, named_leaves
from ..errors import ConfigError, UnsupportedError
from .plain import in_plain_operations
from .source import Source


@dataclass(frozen=True)
class Port:
    """An input or an output: its name, as the user wrote it, and the value that it is in the graph.

    A name is that of the argument, followed by the way to the leaf in a nest: "x", "state.0", "params.layers.0.Wx".
    """

    name: str
    value: Value

    @property
    def shape(self) -> Shape:
        """Shape of the array."""
        return self.value.shape

    @property
    def dtype(self) -> DType:
        """Its dtype."""
        return self.value.dtype


@dataclass(frozen=True)
class Weight:
    """An array that the function uses without being given it: its name, its value in the graph, and its content."""

    name: str
    value: Value
    array: Array


@dataclass(frozen=True)
class Carried:
    """A leaf of the state: numbers of the input and of the output that replaces it, and its content at the start."""

    input: int
    output: int
    initial: Array


@dataclass(frozen=True)
class Program:
    """A recorded function with names for everything that goes in and out.

    Attributes:
        graph: the calls; it reads the values of `inputs` and of `weights`, and returns those of `outputs`. Other arrays
            in it are constants (`Value.constant`).
        inputs: what each call is given, the carried state too.
        outputs: what each call returns, the carried state too.
        weights: arrays that belong to the function.
        carried: which inputs are replaced by which outputs from call to call.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: tuple[Weight, ...]
    carried: tuple[Carried, ...]

    def plan(self) -> Plan:
        """Return calls and loops on memory that is laid out; the graph is used up.

        Buffers of kind "input" are numbered as the inputs and then the weights, those of kind "output" as the outputs.
        """
        return make_plan(self.graph, frozenset())

    @property
    def given(self) -> tuple[int, ...]:
        """Numbers of the inputs that are not carried."""
        kept = {one.input for one in self.carried}
        return tuple(number for number in range(len(self.inputs)) if number not in kept)

    @property
    def results(self) -> tuple[int, ...]:
        """Numbers of the outputs that are not carried."""
        kept = {one.output for one in self.carried}
        return tuple(number for number in range(len(self.outputs)) if number not in kept)


def program_of(source: Source, passes: Collection[str] = tuple(PASSES)) -> Program:
    """Record a source, and return it with its names after some of the compiler's passes.

    Args:
        source: the function.
        passes: names of passes of the compiler that are run; none of them: the graph as recorded.

    Raises:
        TraceError: if the function reads a value, or uses what cannot be replayed.
        UnsupportedError: if it draws from a generator.
        ConfigError: if what it returns last is not what it carries.
    """
    recorded = trace(source.function, (source.args, {}))
    graph = in_plain_operations(recorded.graph)
    draws = any(isinstance(part, np.random.Generator) for part in recorded.captured)
    if draws or len(graph.inputs) != len(arrays_of(source)):
        raise UnsupportedError(
            "export: the function draws from a generator, which an exported program cannot; draw outside, and pass "
            "what was drawn"
        )
    if passes:
        for _, rewritten in run_passes(graph, [name for name in PASSES if name not in passes]):
            graph = rewritten
    inputs = tuple(Port(name, value) for (name, _), value in zip(arrays_of(source), graph.inputs, strict=True))
    outputs, carried = _outputs(source, recorded.result, graph)
    tensors = [(leaf._array if isinstance(leaf, Tensor) else np.asarray(leaf)) for leaf in recorded.captured]
    names = _weight_names(source, recorded.captured, graph.captured)
    weights = tuple(map(Weight, names, graph.captured, tensors))
    return Program(graph, inputs, outputs, weights, carried)


def arrays_of(source: Source) -> list[tuple[str, Tensor | Array]]:
    """Return the arrays among the arguments with their names."""
    return [
        (name, leaf)
        for argument, nest in zip(source.names, source.args, strict=True)
        for name, leaf in named_leaves(argument, nest)
        if isinstance(leaf, Tensor | np.ndarray)
    ]


def _outputs(source: Source, result: object, graph: Graph) -> tuple[tuple[Port, ...], tuple[Carried, ...]]:
    """Return the outputs with their names, and which of them are carried."""
    kept = len(source.carried)
    parts = result if isinstance(result, tuple) else (result,)
    if kept > len(parts):
        raise ConfigError(
            f"export: the function must return (results ..., {', '.join(source.carried)}), a tuple whose last parts "
            f"are the carried arguments; it returned {len(parts)} part{'s'[: len(parts) != 1]}"
        )
    results, states = parts[: len(parts) - kept], parts[len(parts) - kept :]
    named = list(named_leaves("y", results[0] if len(results) == 1 else list(results)))
    for name, nest in zip(source.carried, states, strict=True):
        named += named_leaves(name, nest)
    if any(part is not ARRAY for _, part in named) or len(flatten(result)) != len(graph.outputs):
        raise UnsupportedError("export: the function returns parts that are no arrays; return arrays and Tensors alone")
    outputs = tuple(Port(name, value) for (name, _), value in zip(named, graph.outputs, strict=True))
    return outputs, tuple(_carried(source, outputs))


def _carried(source: Source, outputs: tuple[Port, ...]) -> Iterator[Carried]:
    """Yield the leaves that are carried."""
    leaves = arrays_of(source)
    places = {name: number for number, (name, _) in enumerate(leaves)}
    numbers = {port.name: number for number, port in enumerate(outputs)}
    for argument in source.carried:
        for name, leaf in named_leaves(argument, source.args[source.names.index(argument)]):
            array = np.asarray(leaf.data if isinstance(leaf, Tensor) else leaf)
            number = numbers.get(name)
            if number is None or (outputs[number].shape, outputs[number].dtype) != (array.shape, array.dtype):
                got = "nothing" if number is None else f"{outputs[number].shape} {outputs[number].dtype}"
                raise ConfigError(
                    f"export: the carried argument {name} is {array.shape} {array.dtype}, and the function returns "
                    f"{got} in its place; return it in the same nesting, shapes and dtypes"
                )
            yield Carried(places[name], number, array)


def _weight_names(source: Source, captured: list[object], values: list[Value]) -> list[str]:
    """Return a name for each weight, no two the same: that of the module, or the Tensor's own."""
    known = {} if source.module is None else {id(part): name for name, part in source.module.tensors().items()}
    found: list[str] = []
    seen: Counter[str] = Counter()
    for leaf, value in zip(captured, values, strict=True):
        name = known.get(id(leaf)) or value.name or "weight"
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return found
