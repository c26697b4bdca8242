"""What a graph means, loops included: its calls, one by one, on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.graph import Body, Call, Graph, Value, map_attrs


def interpret(graph: Graph, arguments: Sequence[Any]) -> list[np.ndarray]:
    """Return the outputs of a graph for arrays (and generators) in the place of its inputs and what it captured.

    Shapes and dtypes must be what its values say, and nothing may be read before it is computed.
    """
    known = dict(zip([*graph.inputs, *graph.captured], arguments, strict=True))
    for value, array in known.items():
        _check(value, array)
    _run(graph.calls, known)
    return [np.asarray(_read(known, value)) for value in graph.outputs]


def _run(calls: Sequence[Call], known: dict[Value, Any]) -> None:
    for call in calls:
        inputs = [_read(known, part) for part in call.inputs]
        if call.name == "loop":
            made: Any = _loop(call.attrs["body"], inputs)
        else:
            attrs = map_attrs(lambda part: _read(known, part), call.attrs)
            made = call.operator.results(call.operator.compute(*inputs, **attrs))
        for value, array in zip(call.outputs, made, strict=True):
            _check(value, array)
            known[value] = array


def _loop(body: Body, inputs: list[Any]) -> list[Any]:
    ends = body.carried, body.carried + body.sliced
    carried, sliced, constants = inputs[: ends[0]], inputs[ends[0] : ends[1]], inputs[ends[1] :]
    assert all(len(array) == body.steps for array in sliced)
    stacks: list[list[Any]] = [[] for _ in body.graph.outputs[body.carried :]]
    for t in reversed(range(body.steps)) if body.reverse else range(body.steps):
        given = [*carried, *(array[t] for array in sliced), *constants]
        known = dict(zip(body.graph.inputs, given, strict=True))
        for value, array in known.items():
            _check(value, array)
        _run(body.graph.calls, known)
        made = [_read(known, value) for value in body.graph.outputs]
        for value, array in zip(body.graph.outputs, made, strict=True):
            _check(value, array)
        carried = made[: body.carried]
        for stack, array in zip(stacks, made[body.carried :], strict=True):
            stack.append(np.array(array))
    return [*carried, *(np.stack(stack[::-1] if body.reverse else stack) for stack in stacks)]


def _read(known: dict[Value, Any], part: Any) -> Any:
    if not isinstance(part, Value):
        return part
    return known[part] if part.constant is None else part.constant


def _check(value: Value, array: Any) -> None:
    if isinstance(array, np.random.Generator):
        assert value.dtype == object
        return
    assert (value.shape, value.dtype) == (np.shape(array), np.asarray(array).dtype), value.maker
