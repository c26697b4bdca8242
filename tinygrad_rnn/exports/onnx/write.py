"""A recorded function as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...compiler.ir.graph import Graph, Value
from ...compiler.passes import PASSES
from ...compiler.passes import run as run_passes
from ...engine.tape import Array
from ...errors import ConfigError
from ...files import write_atomically
from ..program import Port, Program, program_of
from ..source import Source
from .arrange import ARRANGE
from .blocks import Block, Info, Node
from .cells import with_cells
from .constants import write_varying
from .directions import turn_back
from .elementwise import ELEMENTWISE
from .file import library, model_of
from .functions import write_function
from .loops import LOOPS
from .recurrent import RECURRENT
from .reduce import REDUCE
from .scope import Book, Scope, Writer, printable
from .sizes import Axes, Sized, sized

WRITERS: dict[str, Writer] = {**ELEMENTWISE, **ARRANGE, **REDUCE, **LOOPS, **RECURRENT, "function": write_function}
"""Writers of all operations, by name of the operator."""


def write(source: Source, path: Path, *, axes: Axes | None = None, weights: str = "source") -> list[Path]:
    """Write a recorded function as an ONNX file; see `export`.

    Args:
        source: what is written.
        path: the file.
        axes: which axes of which arguments may have any length, and the names of these: {"x": {0: "N", 1: "T"}}; others
            are fixed. None: of a model or a cell N, and T of a window.
        weights: "source": in the file; "blob": in one of their own beside it, whose name ends with .data, as those
            above 2 GB must.

    Returns:
        The files.

    Raises:
        ConfigError: if the onnx library is missing, axes name no argument, or the weights do not fit into one file.
        TraceError: if the function cannot be recorded.
        UnsupportedError: if the standard lacks an operation, the function draws random numbers, or what it computes
            depends on the sizes in another way than an expression can say.
    """
    library()
    if weights not in ("source", "blob"):
        raise ConfigError(f'export: weights must be "source" or "blob", got {weights!r}')
    found = sized(source, axes, _recorded)
    beside = path.with_name(f"{path.name}.data")
    block, carried = block_of(found, _graph_name(source))
    model, data = model_of(
        block, _title(source), _notes(source, found, carried), beside.name if weights == "blob" else None
    )
    if data:
        write_atomically(beside, data)
    write_atomically(path, model.SerializeToString())
    return [path, beside] if data else [path]


def _recorded(source: Source) -> Program:
    """Record a source, with loops for what repeats, and cells for what is one."""
    recorded = program_of(source, ())
    graph = _passed(recorded.graph, "roll")
    states = [(graph.inputs[one.input], graph.outputs[one.output]) for one in recorded.carried]
    graph = _passed(with_cells(graph, states), "simplify")
    outputs = zip(recorded.outputs, graph.outputs, strict=True)
    return replace(recorded, graph=graph, outputs=tuple(Port(port.name, value) for port, value in outputs))


def _passed(graph: Graph, name: str) -> Graph:
    """Return a graph after one of the compiler's passes."""
    for _, rewritten in run_passes(graph, [other for other in PASSES if other != name]):
        graph = rewritten
    return graph


def block_of(found: Sized, title: str = "graph") -> tuple[Block, list[tuple[str, str, Array]]]:
    """Return the graph of the file, and the names of each carried input and output, with the content at the start."""
    program = found.program
    taken: set[str] = set()
    inputs = [_fresh(port.name, taken) for port in program.inputs]
    state = {one.output: f"{inputs[one.input]}.next" for one in program.carried}
    outputs = [_fresh(state.get(number, port.name), taken) for number, port in enumerate(program.outputs)]
    sources = {size: (inputs[number], axis) for number, axes in enumerate(found.axes) for axis, size in axes.items()}
    book = Book(found, sources, WRITERS, write_varying, taken)
    block = Block(title)
    scope = Scope(book, block)
    scope.names.update(zip(program.graph.inputs, inputs, strict=True))
    for call in program.graph.calls:
        scope.call(call)
    turn_back(block, book.constants, {scope.name(value) for value in program.graph.outputs})
    _name_outputs(scope, program.graph.outputs, outputs)
    block.nodes[:0] = book.lengths.nodes
    live = _prune(block, set(outputs))
    block.constants = {name: array for name, array in book.constants.items() if name in live}
    infos = zip(inputs, program.inputs, strict=True)
    block.inputs = [Info(name, port.dtype, found.shape(port.value)) for name, port in infos]
    infos = zip(outputs, program.outputs, strict=True)
    block.outputs = [Info(name, port.dtype, found.shape(port.value)) for name, port in infos]
    return block, [(inputs[one.input], outputs[one.output], one.initial) for one in program.carried]


def _fresh(wanted: str, taken: set[str]) -> str:
    """Return a name that no other input or output has."""
    name, count = printable(wanted), 1
    while name in taken:
        count += 1
        name = f"{printable(wanted)}_{count}"
    taken.add(name)
    return name


def _name_outputs(scope: Scope, values: list[Value], names: list[str]) -> None:
    """Give the results of the graph the names of its outputs."""
    made = {output: node for node in scope.block.nodes for output in node.outputs}
    now: dict[str, str] = {}
    for value, name in zip(values, names, strict=True):
        old = scope.name(value)
        if old in made and old not in now:
            now[old] = name
        else:
            scope.block.nodes.append(Node("Identity", scope.book.name(f"{name}/Identity"), [old], [name], {}))
    _rename(scope.block, now)


def _rename(block: Block, now: Mapping[str, str]) -> None:
    for node in block.nodes:
        node.inputs[:] = [now.get(one, one) for one in node.inputs]
        node.outputs[:] = [now.get(one, one) for one in node.outputs]
        for part in node.attributes.values():
            if isinstance(part, Block):
                _rename(part, now)


def _graph_name(source: Source) -> str:
    kind = type(source.module) if source.module is not None else source.function
    return printable(getattr(kind, "__name__", "function"))


def _prune(block: Block, live: set[str]) -> set[str]:
    """Remove nodes whose results nobody reads; return the names that are read."""
    kept = []
    for node in reversed(block.nodes):
        if live.isdisjoint(node.outputs):
            continue
        if node.kind in ("RNN", "GRU", "LSTM"):
            node.outputs[:] = [name if name in live else "" for name in node.outputs]
        live.update(node.inputs)
        for part in node.attributes.values():
            if isinstance(part, Block):
                live |= _prune(part, {info.name for info in part.outputs})
        kept.append(node)
    block.nodes[:] = kept[::-1]
    return live


def _title(source: Source) -> str:
    """Return what the file holds, in a sentence."""
    if source.module is not None:
        return f"{type(source.module).__name__}: {', '.join(source.names)} to y and the state after it"
    return f"{getattr(source.function, '__qualname__', 'function')}({', '.join(source.names)})"


def _notes(source: Source, found: Sized, carried: Sequence[tuple[str, str, Array]]) -> dict[str, str]:
    """Return the metadata: how the state goes round, what it is at first, which sizes are not fixed, the tokens."""
    notes = {"generator": "tinygrad_rnn", "parameters": str(sum(one.array.size for one in found.program.weights))}
    if source.module is not None:
        notes["class"] = f"{type(source.module).__module__}.{type(source.module).__qualname__}"
    if source.saved is not None:
        notes["vocabulary"] = json.dumps(source.saved.vocabulary.to_list())
        notes["level"] = source.saved.config.level
    if carried:
        pairs = [{"input": old, "output": new, "start": _start(array)} for old, new, array in carried]
        notes["state"] = json.dumps(pairs)
    if names := sorted({size for axes in found.axes for size in axes.values()}):
        notes["sizes"] = ", ".join(names)
    return notes


def _start(array: Array) -> object:
    """Return a state before the first step for the metadata: one number, or that of the first sequence."""
    if array.size and (array == array.flat[0]).all():
        return array.flat[0].item()
    return (array[0] if array.ndim > 1 else array).tolist()
