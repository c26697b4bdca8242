"""Recording of a function: everything that it computes on Tensors, forward, backward and without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ...engine.arrays import check_plain
from ...engine.tape import tracing
from ...engine.tensor import Tensor
from ...engine.tree import flatten, rebuild
from ...errors import DTypeError, TraceError
from ..ir.graph import Graph, Value
from .arguments import Arguments
from .known import Known
from .loops import LoopTracer
from .named import named_by
from .outside import Outside


class Recorded(NamedTuple):
    """A recorded function.

    Attributes:
        graph: what it computed.
        captured: parameters and generators that it used, but did not take as arguments.
        result: what it returned, with `ARRAY` where a Tensor or an array was.
        outside: arrays that it used from outside, and that may change.
    """

    graph: Graph
    captured: list[object]
    result: object
    outside: Outside


ARRAY = object()
_ARRAYS = Tensor, np.ndarray


Recorder = Callable[[Iterable[object], Known | None], LoopTracer]
"""Makes a tracer for the arrays that the code of a function names, and what `trace` is given."""


def trace(
    function: Callable[..., object],
    args: Arguments,
    known: Known | None = None,
    recorder: Recorder = LoopTracer,
) -> Recorded:
    """Run a function once, and return a recording of what it computed.

    Args:
        function: what is recorded.
        args: of the call.
        known: from earlier recordings of this function; None: there are none. This recording adds to it.
        recorder: makes the tracer.

    Raises:
        TraceError: if the function reads the value of a Tensor, or uses what cannot be replayed.
    """
    leaves = flatten(args)
    named_parts, variables = named_by(function, [leaf for leaf in leaves if hasattr(leaf, "__dict__")])
    tracer = recorder(named_parts, known)
    stand_ins = [_stand_in(tracer, leaf, f"arg{number}") for number, leaf in enumerate(leaves)]
    positional, named = rebuild(args, iter(stand_ins))
    try:
        with tracing(tracer), np.errstate(all="ignore"):  # abstract values mean nothing
            result = function(*positional, **named)
    finally:
        tracer.rewind()
    tracer.check_draws()
    parts = flatten(result)
    for part in parts:
        if not isinstance(part, Tensor | np.ndarray | np.generic | np.random.Generator | int | float | complex | str):
            raise TraceError(
                f"compile: the function returned an object of type {type(part).__name__}, which a replay cannot "
                "make again; return Tensors, arrays, numbers, strings, None, in tuples, lists and dicts"
            )
    outputs = [tracer.value_of(part) for part in parts if isinstance(part, _ARRAYS)]
    graph = Graph(tracer.inputs, tracer.calls, outputs, [value for value, _ in tracer.captured])
    objects = {tracer.value_of(x): f"arg{number}" for number, x in enumerate(stand_ins) if _holds_objects(x)}
    if objects:
        _check_numbers(graph, objects)
    kept = rebuild(result, iter([ARRAY if isinstance(part, _ARRAYS) else part for part in parts]))
    captured = [leaf for _, leaf in tracer.captured]
    return Recorded(graph, captured, kept, Outside(tracer.outside, variables))


def _stand_in(tracer: LoopTracer, leaf: object, name: str) -> object:
    """Return what the function receives for an argument while it is recorded."""
    if isinstance(leaf, Tensor):
        return tracer.argument(leaf._array, leaf if leaf.requires_grad else None, leaf.name or name)
    if isinstance(leaf, np.ndarray):
        check_plain(leaf, f"compile: {name}")
        return tracer.argument(leaf, None, name)
    if isinstance(leaf, np.random.Generator):
        tracer.generator(leaf, name)
    return leaf


def _holds_objects(x: object) -> bool:
    return isinstance(x, _ARRAYS) and x.dtype == object


def _check_numbers(graph: Graph, objects: dict[Value, str]) -> None:
    """Check that no array of objects is read: a plan has memory for numbers."""
    read = [*graph.outputs, *(value for call in graph.calls for value in call.values())]
    for value in filter(objects.__contains__, read):
        raise DTypeError(
            f"compile: {objects[value]}: expected an array of numbers, got dtype object of shape {value.shape}; "
            "convert it, for instance with x.astype(float), or use it outside of the function"
        )
