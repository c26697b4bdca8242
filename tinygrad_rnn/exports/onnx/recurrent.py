"""RNN, LSTM and GRU nodes: for a cell at one step, and for a loop that does nothing but repeat one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from ...compiler.ir.graph import Body, Call, Value
from ...engine.tape import Array
from .blocks import Attribute
from .cells import CELL, FLOAT, Found
from .gates import biases, columns
from .loops import LOOPS
from .scope import Scope


class _Cell(NamedTuple):
    """A call of a cell: what it is, and its operands."""

    about: Found
    x: Value
    state: tuple[Value, ...]
    weights: dict[str, Value]


def _cell_of(call: Call) -> _Cell:
    about: Found = call.attrs["cell"]
    x, *others = cast("tuple[Value, ...]", call.inputs)
    weights = dict(zip(about.weights, others[about.parts :], strict=True))
    return _Cell(about, x, tuple(others[: about.parts]), weights)


def _write_step(to: Scope, call: Call) -> list[str]:
    """Write a cell as a node over one step."""
    cell = _cell_of(call)
    x = to.node("Unsqueeze", to.name(cell.x), to.integers([0]))
    _, *after = _write_node(to, cell, x, [to.name(part) for part in cell.state], "forward")
    return after


def _write_loop(to: Scope, call: Call) -> list[str]:
    """Write a loop: as a node over all steps if its body is a cell, as a Scan otherwise."""
    body: Body = call.attrs["body"]
    cell = _whole_body(body)
    if cell is None:
        return [*LOOPS["loop"](to, call)]
    outer = dict(zip(body.graph.inputs, call.inputs, strict=True))
    direction = "reverse" if body.reverse else "forward"
    whole = cell._replace(weights={name: outer[value] for name, value in cell.weights.items()})
    start = [to.name(outer[part]) for part in cell.state]
    stack, *after = _write_node(to, whole, to.name(outer[cell.x]), start, direction)
    by_state = dict(zip(cell.state, after, strict=True))
    last = [by_state[value] for value in body.graph.inputs[: body.carried]]
    return [*last, *[stack] * (len(call.outputs) - body.carried)]


def _whole_body(body: Body) -> _Cell | None:
    """Return the cell that a body consists of, if it does nothing else and its state is carried."""
    graph = body.graph
    if len(graph.calls) != 1 or graph.calls[0].name != CELL:
        return None
    (call,) = graph.calls
    cell = _cell_of(call)
    n, m = body.carried, body.carried + body.sliced
    carried, sliced, fixed = graph.inputs[:n], graph.inputs[n:m], set(graph.inputs[m:])
    carries = dict(zip(carried, graph.outputs[:n], strict=True))
    goes_on = len(cell.state) == n and all(
        carries.get(old) is new for old, new in zip(cell.state, call.outputs, strict=True)
    )
    if not goes_on or cell.x not in sliced or not fixed.issuperset(cell.weights.values()):
        return None
    return cell if all(value is call.outputs[0] for value in graph.outputs[n:]) else None


def _write_node(to: Scope, cell: _Cell, xs: str, state: Sequence[str], direction: str) -> list[str]:
    """Write a node; return the names of h at all steps (T, N, H), and of the parts of the state after the last."""
    about, hidden_size = cell.about, cell.state[0].shape[1]
    inputs = [xs, *_weights(to, cell, hidden_size), ""]
    inputs += [to.node("Unsqueeze", part, to.integers([0])) for part in state]
    attributes: dict[str, Attribute] = {"hidden_size": hidden_size, "direction": direction}
    if about.kind == "RNN":
        attributes["activations"] = ["Relu" if about.option == "relu" else "Tanh"]
    if about.kind == "GRU":
        attributes["linear_before_reset"] = int(about.option == "after")
    stack, *after = to.nodes(about.kind, inputs, 1 + len(state), attributes)
    return [to.node("Squeeze", one, to.integers([axis])) for one, axis in ((stack, 1), *((part, 0) for part in after))]


def _weights(to: Scope, cell: _Cell, hidden_size: int) -> list[str]:
    """Return the names of W, R and B; "" for no B."""
    kind = cell.about.kind
    order = columns(kind, hidden_size)
    title = to.weight_name(cell.weights["Wx"]).rpartition(".")[0]
    names = []
    for ours, theirs in (("Wx", "W"), ("Wh", "R")):
        value = cell.weights[ours]
        array = to.array(value)
        if array is None:
            turned = to.node("Transpose", to.name(value), perm=[1, 0])
            chosen = to.node("Gather", turned, to.book.array(order, "gates"), axis=0)
            names.append(to.node("Unsqueeze", chosen, to.integers([0])))
        else:
            names.append(_kept(to, (kind, theirs, to.source(value)), array.T[None, order], _join(title, theirs)))
    return [*names, _biases(to, cell, hidden_size, title)]


def _biases(to: Scope, cell: _Cell, hidden_size: int, title: str) -> str:
    given = {name: value for name, value in cell.weights.items() if name in ("b", "bh")}
    if not given:
        return ""
    arrays = {name: to.array(value) for name, value in given.items()}
    known = {name: array for name, array in arrays.items() if array is not None}
    kind = cell.about.kind
    if len(known) == len(given):
        joined = biases(kind, known, hidden_size)
        assert joined is not None
        return _kept(to, (kind, "B", *map(to.source, given.values())), joined[None], _join(title, "B"))
    order = to.book.array(columns(kind, hidden_size), "gates")
    parts = [to.node("Gather", to.name(given["b"]), order, axis=0)]
    width = given["b"].shape[0]
    zeros = width - hidden_size if "bh" in given else width
    parts.append(to.book.array(np.zeros(zeros, FLOAT), "constant"))
    if "bh" in given:
        parts.append(to.name(given["bh"]))
    return to.node("Unsqueeze", to.node("Concat", *parts, axis=0), to.integers([0]))


def _join(title: str, name: str) -> str:
    return f"{title}.{name}" if title else name


def _kept(to: Scope, key: object, array: Array, title: str) -> str:
    """Return the name of a constant that is written once, however often it is used."""
    if key not in to.book.known:
        to.book.known[key] = to.book.array(array, title)
    return to.book.known[key]


RECURRENT = {CELL: _write_step, "loop": _write_loop}
"""Writers of cells, and of loops, by name of the operator."""
