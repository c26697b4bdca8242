"""Gradients of weights: products and sums of rows that a loop adds up step by step, as one after the loop.

The sum over t of x_t.T @ d_t is X.T @ D, where the rows of all steps are concatenated. Only sums that the engine made,
of the terms of one cotangent, are reassociated: their order is free, that of a sum in the function is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from ..ir.editing import OpenLoop, edit_loops
from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import ADD, SUM
from .common import axes_of, before_reshapes, is_outer, outer_product, reshaped


def defer_sums(graph: Graph) -> Graph:
    """Compute carried sums after the loop, where their terms are products x.T @ d, or sums of elements."""

    def edit(loop: OpenLoop, _: Rewriter, after: Rewriter) -> None:
        returned = {value for value, _ in loop.stacks}
        for state in list(loop.states):
            uses, total = loop.uses(), state.after.maker
            if total is None or total.cotangent is None:
                continue
            if len(uses.get(state.before, ())) != 1 or state.after in uses or {state.before, state.after} & returned:
                continue
            leaves, inside = _chain(total, uses, returned)
            terms = [leaf for leaf in reversed(leaves) if leaf is not state.before]
            if len(terms) == len(leaves) or not all(_can_wait(term, state.before, loop) for term in terms):
                continue
            loop.states.remove(state)
            loop.calls = [call for call in loop.calls if call is not total and call not in inside]
            parts = [_over_time(after, loop, term) for term in terms if isinstance(term, Value)]
            if state.initial.constant is None or state.initial.constant.any():
                parts.append(state.initial)
            after.now[state.final] = reduce(lambda a, b: after.call(ADD, [a, b]).output, parts)

    return edit_loops(graph, edit)


def _chain(root: Call, uses: Mapping[Value, list[Call]], returned: set[Value]) -> tuple[list[object], set[Call]]:
    """Return the terms of a sum of one cotangent, and the additions that it consists of.

    An addition whose result has another reader is a term.
    """
    leaves: list[object] = []
    inside: set[Call] = set()
    waiting = list(reversed(root.inputs))
    while waiting:
        part = waiting.pop()
        maker = part.maker if isinstance(part, Value) else None
        if (
            maker is not None
            and maker.name == "add"
            and maker.cotangent == root.cotangent
            and len(uses[part]) == 1
            and part not in returned
        ):
            inside.add(maker)
            waiting.extend(reversed(maker.inputs))
        else:
            leaves.append(part)
    return leaves, inside


def _can_wait(term: object, like: Value, loop: OpenLoop) -> bool:
    """Return whether a term is a product x.T @ d, or a sum of elements, of values that differ from step to step."""
    if not isinstance(term, Value) or term.spec != like.spec:
        return False
    maker = before_reshapes(term).maker
    if maker is None:
        return False
    if maker.name == "matmul":
        parts = [maker.inputs[0].maker.inputs[0], maker.inputs[1]] if is_outer(maker) and term.maker is maker else []
    else:
        parts = list(maker.inputs) if maker.name == "sum" else []
    return bool(parts) and all(part not in loop.constants and part.constant is None for part in parts)


def _over_time(after: Rewriter, loop: OpenLoop, term: Value) -> Value:
    """Append the sum of a term over all steps."""
    call = before_reshapes(term).maker
    assert call is not None
    if call.name == "matmul":
        left, right = call.inputs[0].maker.inputs[0], call.inputs[1]
        return outer_product(after, loop.stack_of(left), loop.stack_of(right))
    over = (0, *(axis + 1 for axis in axes_of(call)))
    made = after.call(SUM, [loop.stack_of(call.inputs[0])], {"axis": over, "keepdims": False}).output
    return reshaped(after, made, term.shape)
