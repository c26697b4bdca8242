"""Early calls of functions that pass a value out of the plan, to other processes for instance."""

from __future__ import annotations

from ..ir.graph import Call, Graph
from ..ir.table import VIEWS

HAND_OVER = "hand_over"
"""Name, in `without_gradient`, of a function that is called as soon as its operands are there."""


def hand_over_early(graph: Graph) -> Graph:
    """Move calls named `HAND_OVER`, with the views and concatenations they read, to right after their last operand.

    They are recorded after the backward pass, and then run before the parts of it that they do not need.
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
    ordered: dict[Call, None] = {}
    late = [call for call in graph.calls if call in moved]
    for call in graph.calls:
        if call in moved:
            continue
        ordered[call] = None
        for one in late:
            if one not in ordered and all(value.maker is None or value.maker in ordered for value in one.values()):
                ordered[one] = None
    return graph.with_calls(dict.fromkeys([*ordered, *late]))
