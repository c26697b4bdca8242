"""Sums of products, and of rows, as one product or one sum over all rows: gradients of weights.

The sum over t of x_t.T @ d_t is X.T @ D with the rows of all steps below each other. Only terms that the engine adds
up, to the cotangent of one value, are regrouped, whose order is free; with `all_sums` those that the user wrote too.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.editing import OpenLoop, edit_loops, readers
from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import ADD, SUM
from ..ir.order import sort
from .common import axes_of, before_reshapes, is_outer, outer_product, reshaped, rows, spec, substitute
from .over_time import stacked
from .reassociate import Part, chain


def defer_sums(graph: Graph, all_sums: bool = False) -> Graph:
    """Make of products that are added up one product of stacked rows, and of sums of rows one sum."""
    uses, returned = graph.uses(), set(graph.outputs)
    inner: set[Call] = set()
    now: dict[Value, Value] = {}
    new = Rewriter(graph)
    new.calls = list(graph.calls)
    for call in reversed(graph.calls):
        if call.name != "add" or call in inner or not (all_sums or call.cotangent):
            continue
        leaves, inside = chain(call, uses, returned, all_sums)
        inner |= inside
        rest: list[Part] = []
        groups: dict[object, list[Call]] = {}
        for leaf in leaves:
            maker = leaf.maker if isinstance(leaf, Value) and spec(leaf) == spec(call.output) else None
            if maker is not None and (is_outer(maker) or _is_column_sum(maker)):
                groups.setdefault((maker.name, *map(spec, maker.inputs)), []).append(maker)
            else:
                rest.append(leaf)
        found = sorted(groups.values(), key=lambda group: group[0].name)
        if any(len(group) > 1 for group in found):
            joined: list[Part] = [_joined(new, sorted(group, key=_time)) for group in found if len(group) > 1]
            alone = [group[0].output for group in found if len(group) == 1]
            now[call.output] = _total(new, [*joined, *rest, *alone])
    return sort(substitute(graph.with_calls(new.calls), now)) if now else graph


def _time(call: Call) -> int:
    return -1 if call.step is None else call.step


def _is_column_sum(call: Call) -> bool:
    return call.name == "sum" and call.inputs[0].ndim == 2 and axes_of(call) == (0,) and not call.attrs["keepdims"]


def _joined(new: Rewriter, group: list[Call]) -> Value:
    if group[0].name == "sum":
        whole = rows(new, stacked(new, [call.inputs[0] for call in group]))
        return new.call(SUM, [whole], {"axis": 0, "keepdims": False}).output
    left = stacked(new, [call.inputs[0].maker.inputs[0] for call in group])
    return outer_product(new, left, stacked(new, [call.inputs[1] for call in group]))


def _total(new: Rewriter, parts: Iterable[Part]) -> Value:
    made, *others = parts
    for part in others:
        made = new.call(ADD, [made, part]).output
    assert isinstance(made, Value)
    return made


# -- sums that loops carry --------------------------------------------------------------------------------------------


def defer_carried(graph: Graph, all_sums: bool = False) -> Graph:
    """Take sums that loops carry out of them, where their terms are products or sums of rows."""

    def edit(loop: OpenLoop, _: Rewriter, after: Rewriter) -> None:
        returned = {value for value, _ in loop.stacks}
        for state in list(loop.states):
            uses, total = readers(loop.calls), state.after.maker
            if total is None or total.name != "add" or not (all_sums or total.cotangent):
                continue
            if len(uses.get(state.before, ())) != 1 or state.after in uses or {state.before, state.after} & returned:
                continue
            leaves, inside = chain(total, uses, returned, False)
            terms = [leaf for leaf in reversed(leaves) if leaf is not state.before]
            if len(terms) == len(leaves) or not all(_can_wait(term, state.before, loop) for term in terms):
                continue
            loop.states.remove(state)
            loop.calls = [call for call in loop.calls if call is not total and call not in inside]
            parts: list[Part] = [_over_time(after, loop, term) for term in terms if isinstance(term, Value)]
            if state.initial.constant is None or state.initial.constant.any():
                parts.append(state.initial)
            after.now[state.final] = _total(after, parts)

    return edit_loops(graph, edit)


def _can_wait(term: Part, like: Value, loop: OpenLoop) -> bool:
    """Return whether a term is a product x.T @ d, or a sum of elements, of what differs from step to step."""
    if not isinstance(term, Value) or spec(term) != spec(like):
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
