"""Carried sums: what each step adds to a cotangent is added up after the loop, in one product or one sum.

The sum over t of x_t.T @ d_t is X.T @ D with the rows of all steps below each other: the gradients of the weights.
"""

from __future__ import annotations

import math

from ..ir.editing import OpenLoop, State, edit_loops, readers
from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import ADD, MATMUL, RESHAPE, SUM, TRANSPOSE
from .regroup import is_outer


def defer_carried(graph: Graph) -> Graph:
    """Take sums of terms of a cotangent out of loops, where they are products or sums of rows."""
    return _deferred(graph, False)


def regroup_carried(graph: Graph) -> Graph:
    """Do the same with sums that the user wrote."""
    return _deferred(graph, True)


def _deferred(graph: Graph, anybodys: bool) -> Graph:
    def edit(loop: OpenLoop, _: Rewriter, after: Rewriter) -> None:
        stacked = {value for value, _ in loop.stacks}
        for state in list(loop.states):
            uses = readers(loop.calls)
            total = state.after.maker
            if state.before in stacked or state.after in stacked or total is None or total.name != "add":
                continue
            if len(uses.get(state.before, ())) != 1 or state.after in uses or not (anybodys or total.cotangent):
                continue
            sums: list[Call] = []
            terms = _terms(total, state, uses, sums)
            if terms is None or not all(_can_wait(term, loop) for term in terms):
                continue
            loop.states.remove(state)
            loop.calls = [call for call in loop.calls if call not in sums]
            parts = [_whole(after, loop, term) for term in terms]
            if state.initial.constant is None or state.initial.constant.any():
                parts.append(state.initial)
            made = parts[0]
            for part in parts[1:]:
                made = after.call(ADD, [made, part]).output
            after.now[state.final] = made

    return edit_loops(graph, edit)


def _terms(total: Call, state: State, uses: dict[Value, list[Call]], sums: list[Call]) -> list[Value] | None:
    """Return the terms that a step adds to a carried sum; None if it does something else with it.

    The additions are appended to `sums`.
    """
    found: list[Value] = []
    sums.append(total)
    waiting = list(total.inputs)
    seen = False
    while waiting:
        part = waiting.pop()
        maker = part.maker if isinstance(part, Value) else None
        if part is state.before:
            seen = True
        elif not isinstance(part, Value) or (part.shape, part.dtype) != (state.before.shape, state.before.dtype):
            return None
        elif maker is not None and maker.name == "add" and maker.cotangent == total.cotangent and len(uses[part]) == 1:
            sums.append(maker)
            waiting += maker.inputs
        else:
            found.append(part)
    return found if seen else None


def _can_wait(term: Value, loop: OpenLoop) -> bool:
    """Return whether a term is a product x.T @ d, or a sum of elements, of what differs from step to step."""
    maker = _behind_reshapes(term).maker
    if maker is None:
        return False
    if maker.name == "matmul":
        parts = [maker.inputs[0].maker.inputs[0], maker.inputs[1]] if is_outer(maker) and term.maker is maker else []
    else:
        parts = list(maker.inputs) if maker.name == "sum" else []
    return bool(parts) and all(part not in loop.constants and part.constant is None for part in parts)


def _behind_reshapes(value: Value) -> Value:
    while value.maker is not None and value.maker.name == "reshape":
        value = value.maker.inputs[0]
    return value


def _whole(after: Rewriter, loop: OpenLoop, term: Value) -> Value:
    """Append the sum of a term over all steps."""
    call = _behind_reshapes(term).maker
    assert call is not None
    if call.name == "matmul":
        left, right = (_rows(after, loop, part) for part in (call.inputs[0].maker.inputs[0], call.inputs[1]))
        turned = after.call(TRANSPOSE, [left], {"axes": (1, 0)}).output
        return after.call(MATMUL, [turned, right]).output
    x = loop.stack_of(call.inputs[0])
    ndim, axes = call.inputs[0].ndim, call.attrs["axis"]
    axes = tuple(range(ndim)) if axes is None else (axes,) if isinstance(axes, int) else axes
    over = (0, *(axis % ndim + 1 for axis in axes))
    made = after.call(SUM, [x], {"axis": over, "keepdims": False}).output
    return after.call(RESHAPE, [made], {"shape": term.shape}).output


def _rows(after: Rewriter, loop: OpenLoop, value: Value) -> Value:
    """Append what puts the rows of a matrix of all steps below each other, in the order of time."""
    whole = loop.stack_of(value)
    return after.call(RESHAPE, [whole], {"shape": (math.prod(whole.shape[:2]), whole.shape[2])}).output
