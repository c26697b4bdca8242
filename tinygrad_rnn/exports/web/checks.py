"""Checks of arguments: the executor checks what it looks up itself, and shapes are known, so NumPy's are left out.

It counts a negative id from the end of the table, as NumPy does; where the package refuses one, the runtime does too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Body, Call, Graph, Rewriter, Value
from ...compiler.passes.common import Operands, rewrite
from ..checks import CHECK_OF_IDS, COPIES, full_name

_MOVES = frozenset({"reshape", "transpose", "getitem", "expand_dims", "contiguous", "copy", "astype"})
"""Operations whose results hold nothing but elements of their operand."""


def without_negatives(graph: Graph) -> Iterator[Value]:
    """Yield the values that hold ids of which none may be negative, each where it comes from: an input, as a rule."""
    for call in graph.calls:
        if call.name == "loop":
            body: Body = call.attrs["body"]
            outer = dict(zip(body.graph.inputs, call.inputs, strict=True))
            yield from (_source(outer[value]) for value in without_negatives(body.graph) if value in outer)
        elif full_name(call.operator.compute) == CHECK_OF_IDS:
            yield _source(call.inputs[0])


def _source(value: Value) -> Value:
    """Return the value that holds all elements of another one."""
    while value.maker is not None and value.maker.name in _MOVES:
        (value, *_) = value.maker.inputs
    return value


def without_checks(graph: Graph) -> Graph:
    """Return a graph without the calls that check an array and return it as it is."""
    return in_bodies(lambda part: rewrite(part, _rule), graph)


def _rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
    name = full_name(call.operator.compute)
    if name not in (*COPIES, CHECK_OF_IDS) or inputs[0].spec != call.output.spec:
        return None
    return [inputs[0]]
