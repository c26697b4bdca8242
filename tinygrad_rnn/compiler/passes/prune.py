"""Pruning of loops: removal of results, carried values and inputs that nothing reads or that never change."""

from __future__ import annotations

import numpy as np

from ..ir.editing import OpenLoop, edit_loops
from ..ir.graph import Graph, Rewriter, Value
from ..ir.operators import BROADCAST, RESHAPE
from .simplify import remove_dead_code


def prune_loops(graph: Graph) -> Graph:
    """Remove from loops what no result needs, and make slices and carried values that never change constants."""
    used = set(graph.outputs)
    for call in graph.calls:
        used.update(call.values())

    def edit(loop: OpenLoop, before: Rewriter, after: Rewriter) -> None:
        _drop_stacks(loop, used, after)
        _still_slices(loop, before)
        _drop_states(loop, used, after)
        _drop_inputs(loop)

    return edit_loops(graph, edit)


def _drop_stacks(loop: OpenLoop, used: set[Value], after: Rewriter) -> None:
    """Drop stacks that nothing reads, and those that equal an input of the loop or another stack."""
    kept: dict[Value, Value] = {}
    for value, stack in loop.stacks:
        if value in loop.slices:
            after.now[stack] = loop.slices[value]
        elif value in loop.constants or value.constant is not None:
            outer = loop.constants.get(value, value)
            after.now[stack] = after.call(BROADCAST, [outer], {"shape": stack.shape}).output
        elif value in kept:
            after.now[stack] = kept[value]
        elif stack in used:
            kept[value] = stack
    loop.stacks = list(kept.items())


def _still_slices(loop: OpenLoop, before: Rewriter) -> None:
    """Make slices of arrays that were broadcast along time constants."""
    now: dict[Value, Value] = {}
    for inner, outer in list(loop.slices.items()):
        maker = outer.maker
        if maker is None or maker.name != "broadcast_to":
            continue
        source = maker.inputs[0]
        if source.ndim == outer.ndim and source.shape[0] == 1:
            source = before.call(RESHAPE, [source], {"shape": source.shape[1:]}).output
        elif source.ndim == outer.ndim:
            continue
        if source.shape != inner.shape:
            source = before.call(BROADCAST, [source], {"shape": inner.shape}).output
        now[inner] = loop.constant(source)
    loop.substitute(now)


def _drop_states(loop: OpenLoop, used: set[Value], after: Rewriter) -> None:
    """Make carried values that never change constants, and drop those that no result needs."""
    now: dict[Value, Value] = {}
    states = []
    stacked = {value for value, _ in loop.stacks}
    for state in loop.states:
        if state.before in stacked or not _is_fixed(state.initial, state.after, state.before):
            states.append(state)
            continue
        now[state.before] = loop.constant(state.initial)
        after.now[state.final] = state.initial
    loop.states = states
    loop.substitute(now)
    needed = stacked | {state.after for state in loop.states if state.final in used}
    while True:  # a carried value is needed if a needed call reads it at the next step, so to a fixed point
        live = remove_dead_code(Graph([], loop.calls, list(needed))).calls
        read = needed.union(*(call.values() for call in live))
        more = {state.after for state in loop.states if state.before in read} - needed
        if not more:
            break
        needed |= more
    loop.states = [state for state in loop.states if state.before in read or state.final in used]
    loop.calls = live


def _is_fixed(initial: Value, after: Value, before: Value) -> bool:
    """Return whether a carried value never changes."""
    if after is before:
        return True
    a, b = initial.constant, after.constant
    return a is not None and b is not None and a.size <= 1 << 12 and bool(np.array_equal(a, b))


def _drop_inputs(loop: OpenLoop) -> None:
    """Drop inputs that the body does not read, merge inputs of the same array, and read constants directly."""
    now: dict[Value, Value] = {}
    for kind in (loop.slices, loop.constants):
        seen: dict[Value, Value] = {}
        for inner, outer in kind.items():
            if kind is loop.constants and outer.constant is not None:
                now[inner] = outer
            elif seen.setdefault(outer, inner) is not inner:
                now[inner] = seen[outer]
    loop.substitute(now)
    read = {value for call in loop.calls for value in call.values()}
    read.update(state.after for state in loop.states)
    read.update(value for value, _ in loop.stacks)
    loop.slices = {inner: outer for inner, outer in loop.slices.items() if inner in read}
    loop.constants = {inner: outer for inner, outer in loop.constants.items() if inner in read}
