"""Operands that are written where a result, or a part of a stack, will lie: x @ W + b needs one buffer."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator

from ..ir.graph import Call, Graph, Value
from ..ir.table import IN_PLACE, VIEWS


def made_in_results(graph: Graph, placed: Collection[Value], over: Container[Call]) -> Iterator[tuple[Value, Value]]:
    """Yield pairs of a value and the result that is written over it, element by element, by its only reader.

    Args:
        graph: its calls in order; those in loops are left alone.
        placed: values that have a slot, such as those that a stack joins.
        over: calls whose results lie over donated inputs.
    """
    uses, returned, known = graph.uses(), dict.fromkeys(graph.outputs), set(graph.calls)
    for result in dict.fromkeys([*returned, *placed]):
        call = result.maker
        while call in known and call.name in IN_PLACE and call not in over:
            fitting = (part for part in call.inputs if _may_lie_there(part, result, call, uses))
            operand = next((part for part in fitting if part.maker in known and part not in returned), None)
            if operand is None or operand in placed:
                break
            yield operand, result
            call = operand.maker


def _may_lie_there(part: object, result: Value, call: Call, uses: dict[Value, list[Call]]) -> bool:
    if not isinstance(part, Value) or part.spec != result.spec:
        return False
    maker = part.maker
    return maker is not None and maker.name not in VIEWS | {"loop", "stack"} and set(uses[part]) == {call}
