"""Functions that hand a value over to something outside: called as soon as the value is there."""

from __future__ import annotations

from ..ir.graph import Call, Graph
from ..ir.table import VIEWS

HAND_OVER = "hand_over"
"""Name, in `without_gradient`, of a function that is called as soon as its operands are there."""


def hand_over_early(graph: Graph) -> Graph:
    """Move calls named `HAND_OVER`, and what joins their operands, to after the last call that makes one of these.

    What is recorded at the end, after the backward pass, is so done before the parts of it that it does not need.
    """
    moved: set[Call] = set()
    waiting = [call for call in graph.calls if call.name == HAND_OVER]
    while waiting:
        call = waiting.pop()
        moved.add(call)
        makers = [value.maker for value in call.values()]
        waiting += [one for one in makers if one is not None and (one.name in VIEWS or one.name == "concatenate")]
    if not moved:
        return graph
    done: set[Call] = set()
    ordered: list[Call] = []
    late = [call for call in graph.calls if call in moved]

    def emit(call: Call) -> None:
        done.add(call)
        ordered.append(call)

    for call in graph.calls:
        if call in moved:
            continue
        emit(call)
        for one in [one for one in late if one not in done]:
            if all(value.maker is None or value.maker in done for value in one.values()):
                emit(one)
    for one in late:
        if one not in done:
            emit(one)
    return graph.with_calls(ordered)
