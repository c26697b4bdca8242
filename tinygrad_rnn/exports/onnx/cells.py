"""Finds RNN, LSTM and GRU cells in a recorded graph, whoever wrote the step that they are part of.

The patterns are recorded from the cells of the package, so that they are what these compute. A cell that is found
becomes one call, which is written as one node of the standard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np

from ...compiler.ir.graph import Body, Call, Graph, Operator, Rewriter, Value
from ...compiler.ir.order import sort
from ...compiler.recording.trace import trace
from ...nn.cells import GRUCell, LSTMCell, RNNCell
from ...nn.module import Module

FLOAT = np.dtype(np.float32)
"""The dtype of cells that are looked for: ONNX Runtime has none of float64."""


class Pattern(NamedTuple):
    """A cell as a graph.

    Attributes:
        kind: its node in the standard, "RNN", "LSTM" or "GRU".
        option: "tanh" or "relu"; "after" or "before"; of an LSTM "".
        graph: the step; its inputs are x and the parts of the state, its outputs the parts of the state after it.
        weights: name of each parameter, and its value in the graph.
    """

    kind: str
    option: str
    graph: Graph
    weights: dict[str, Value]


class Found(NamedTuple):
    """What a call of a cell is: its pattern, and the order of its operands: x, the state, these weights."""

    kind: str
    option: str
    parts: int
    weights: tuple[str, ...]


@dataclass
class _Match:
    """What stands in a graph for the values and calls of a pattern."""

    values: dict[Value, Value] = field(default_factory=dict)
    calls: dict[Call, Call] = field(default_factory=dict)


@lru_cache(maxsize=64)
def patterns(hidden_size: int) -> tuple[Pattern, ...]:
    """Return the cells of H units that are looked for; those that hold others come first."""
    rng = np.random.default_rng(0)
    found = []
    for bias in (True, False):
        lstm = LSTMCell(1, hidden_size, rng, bias=bias)
        found.append(_pattern("LSTM", "", lstm, lambda x, h, c, cell=lstm: cell(x, (h, c))[1], 2))
        for reset in ("after", "before"):
            gru = GRUCell(1, hidden_size, rng, reset=reset, bias=bias)
            found.append(_pattern("GRU", reset, gru, lambda x, h, cell=gru: cell(x, h)[1], 1))
        for function in ("tanh", "relu"):
            rnn = RNNCell(1, hidden_size, rng, nonlinearity=function, bias=bias)
            found.append(_pattern("RNN", function, rnn, lambda x, h, cell=rnn: cell(x, h)[1], 1))
    return tuple(found)


def _pattern(kind: str, option: str, cell: Module, step: Callable[..., object], parts: int) -> Pattern:
    H = cast(int, cell.hidden_size)  # type: ignore[attr-defined]
    args = (np.zeros((2, 1), FLOAT), *[np.zeros((2, H), FLOAT)] * parts)
    recorded = trace(step, (args, {}))
    names = {id(tensor): name for name, tensor in cell.tensors().items()}
    captured = zip(recorded.captured, recorded.graph.captured, strict=True)
    return Pattern(kind, option, recorded.graph, {names[id(tensor)]: value for tensor, value in captured})


def with_cells(graph: Graph, states: Sequence[tuple[Value, Value]] = ()) -> Graph:
    """Return a graph in which each cell of float32 is one call, in the bodies of loops too.

    Args:
        graph: as it was recorded: before the passes, which may take parts of a step out of its loop.
        states: carried values, each before and after the step; an RNN is only taken for one if it makes a state.
    """
    for call in graph.calls:
        if call.name == "loop":
            body: Body = call.attrs["body"]
            pairs = zip(body.graph.inputs[: body.carried], body.graph.outputs[: body.carried], strict=True)
            inner = with_cells(body.graph, [*pairs])
            body.graph.calls[:], body.graph.outputs[:] = inner.calls, inner.outputs
    uses = graph.uses()
    kept = set(graph.outputs)
    found: dict[Call, tuple[Pattern, _Match]] = {}
    for call in graph.calls:
        for pattern in _candidates(call):
            match = _matched(pattern, call, uses, kept)
            if match is not None and (pattern.kind != "RNN" or _is_state(pattern, match, states)):
                found[call] = pattern, match
                break
    return _replaced(graph, found) if found else graph


def _candidates(call: Call) -> Iterator[Pattern]:
    """Yield the patterns whose last call is like this one."""
    value = call.outputs[0]
    if len(call.outputs) == 1 and value.ndim == 2 and value.dtype == FLOAT and value.shape[1]:
        for pattern in patterns(value.shape[1]) if call.name in _LAST else ():
            if cast(Call, pattern.graph.outputs[0].maker).name == call.name:
                yield pattern


_LAST = frozenset(["multiply", "add", "tanh", "relu"])  # what makes h' in one of the cells


def _matched(pattern: Pattern, call: Call, uses: dict[Value, list[Call]], kept: set[Value]) -> _Match | None:
    """Return what stands for the parts of a pattern whose h' a call makes; None if it is another step."""
    match = _Match()
    h = pattern.graph.outputs[0]
    if not _unify(h, call.output, pattern, match):
        return None
    x, *states = (match.values[value] for value in pattern.graph.inputs)
    H = call.output.shape[1]
    fits = x.ndim == 2 and all(state.shape == call.output.shape for state in states)
    if not fits or match.values[pattern.weights["Wx"]].ndim != 2 or len(match.values[pattern.weights["Wh"]].shape) != 2:
        return None
    if match.values[pattern.weights["Wh"]].shape[0] != H or x.shape[0] != call.output.shape[0]:
        return None
    inside = set(match.calls.values())
    outside = {match.values[value] for value in pattern.graph.outputs}
    for one in inside:
        for value in one.outputs:
            if value not in outside and (value in kept or any(user not in inside for user in uses.get(value, ()))):
                return None
    return match


def _unify(mine: object, theirs: object, pattern: Pattern, match: _Match) -> bool:
    """Return whether a part of a graph is computed as one of a pattern; take note of what stands for what."""
    if not isinstance(mine, Value):
        return type(mine) is type(theirs) and mine == theirs
    if not isinstance(theirs, Value) or mine.dtype != theirs.dtype or mine.ndim != theirs.ndim:
        return False
    if mine in match.values:
        return match.values[mine] is theirs
    match.values[mine] = theirs
    if mine.maker is None:  # an input, or a weight: it may be anything
        return True
    one, other = mine.maker, theirs.maker
    if other is None or mine.index != theirs.index or one.operator.key != other.operator.key:
        return False
    if one in match.calls:
        return match.calls[one] is other
    match.calls[one] = other
    if one.attrs != other.attrs or len(one.inputs) != len(other.inputs):
        return False
    return all(_unify(*pair, pattern, match) for pair in zip(one.inputs, other.inputs, strict=True))


def _is_state(pattern: Pattern, match: _Match, states: Sequence[tuple[Value, Value]]) -> bool:
    before, after = pattern.graph.inputs[1], pattern.graph.outputs[0]
    return (match.values[before], match.values[after]) in states


def _replaced(graph: Graph, found: dict[Call, tuple[Pattern, _Match]]) -> Graph:
    """Return a graph with calls of cells in place of what makes their h'."""
    gone = {one for _, match in found.values() for one in match.calls.values()}
    new = Rewriter(graph)
    for call in graph.calls:
        if call in found:
            new.place = call.place
            _put(new, *found[call])
        elif call not in gone:
            new.keep(call)
    made = new.done()
    for call in made.calls:  # what was kept before a cell may read its c'
        call.inputs = tuple(map(new.get, call.inputs))
    return sort(made)


def _put(new: Rewriter, pattern: Pattern, match: _Match) -> None:
    values = [*pattern.graph.inputs, *pattern.weights.values()]
    parts = len(pattern.graph.inputs) - 1
    about = Found(pattern.kind, pattern.option, parts, tuple(pattern.weights))
    operator = Operator(CELL, _no_function, multiple=True)
    after = [match.values[value] for value in pattern.graph.outputs]
    specs = [value.spec for value in after]
    inputs = [new.get(match.values[value]) for value in values]
    call = new.call(operator, inputs, {"cell": about}, specs)
    new.now.update(zip(after, call.outputs, strict=True))


def _no_function(*_: object, **__: object) -> object:
    raise RuntimeError("export: a cell has no function of its own; it becomes a node")


CELL = "recurrent cell"
"""Name of the operator of a cell."""
