"""Loops in the form that the layout expects: each carried or stacked value is made in the body, for that alone."""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Body, Call, Graph, Value
from ..ir.operators import CONTIGUOUS
from ..ir.table import VIEWS


def with_places(graph: Graph) -> Graph:
    """Return a graph in whose loops every carried or stacked value can be written where it is wanted.

    A copy is put in where such a value is a view, comes from outside of the body, or is carried in two places.
    """
    calls = [_with_copies(call) if call.name == "loop" else call for call in graph.calls]
    for call in calls:
        for value in call.outputs:
            value.maker = call
    return graph.with_calls(calls)


def _with_copies(call: Call) -> Call:
    body: Body = call.attrs["body"]
    graph, carried = body.graph, body.carried
    params = set(graph.inputs[:carried])
    new: dict[Value, list[Call]] = {}  # copies, by the value that they are made of
    taken: set[Value] = set()
    outputs = list(graph.outputs)
    for number, value in enumerate(graph.outputs):
        is_state = number < carried
        if not is_state and (value in params or value in taken):
            continue  # stacked states before or after a step, or what is stacked already
        if value.maker is not None and value.maker.name not in VIEWS and value not in taken:
            taken.add(value)
            continue
        copy = Call(CONTIGUOUS, [value], {}, [value.spec])
        new.setdefault(value, []).append(copy)
        outputs[number] = copy.output
    if not new:
        return call
    calls = [copy for value in graph.inputs for copy in new.pop(value, ())]
    calls += [copy for value in [v for v in new if v.maker is None] for copy in new.pop(value)]
    for inner in graph.calls:
        calls.append(inner)
        calls += [copy for value in inner.outputs for copy in new.pop(value, ())]
    call.attrs = {"body": replace(body, graph=Graph(graph.inputs, calls, outputs))}
    return call
