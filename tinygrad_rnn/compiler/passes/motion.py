"""Code motion: what no step of a loop waits for is computed for all steps at once, before the loop or after it.

What depends on slices and constants alone can come before the loop; what nothing carried depends on can come after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.editing import OpenLoop, edit_loops, mapped_attrs, readers
from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.table import ELEMENTWISE, VIEWS
from .over_time import for_all_steps, is_known

_LARGE = 1 << 12  # elements: above this a call costs little, and what a step has just made is still in cache


def products_out(graph: Graph) -> Graph:
    """Compute products with a matrix that is the same at each step for all steps at once."""

    def wanted(call: Call, loop: OpenLoop) -> bool:
        if call.name != "matmul" or any(part.ndim != 2 for part in call.inputs):
            return False
        return call.inputs[1].constant is not None or call.inputs[1] in loop.constants

    return _moved(graph, wanted)


def elementwise_out(graph: Graph) -> Graph:
    """Compute small elementwise operations for all steps at once: local derivatives, biases."""
    return _moved(graph, lambda call, _: call.name in ELEMENTWISE and call.output.size <= _LARGE)


def invariants_out(graph: Graph) -> Graph:
    """Compute what is the same at each step once."""

    def edit(loop: OpenLoop, before: Rewriter, _: Rewriter) -> None:
        now: dict[Value, Value] = {}
        kept = []
        for call in loop.calls:
            operands = [now.get(value, value) for value in call.values()]
            is_fixed = call.operator.pure and all(v in loop.constants or v.constant is not None for v in operands)
            if not is_fixed or not operands:
                kept.append(call)
                continue

            def outside(part: Any) -> Any:
                part = now.get(part, part) if isinstance(part, Value) else part
                return loop.constants.get(part, part) if isinstance(part, Value) else part

            inputs, attrs = tuple(map(outside, call.inputs)), mapped_attrs(call, outside)
            specs = [(value.shape, value.dtype) for value in call.outputs]
            made = before.call(call.operator, inputs, attrs, specs, call.place)
            made.cotangent = call.cotangent
            now.update((old, loop.constant(new)) for old, new in zip(call.outputs, made.outputs, strict=True))
        loop.calls = kept
        loop.substitute(now)

    return edit_loops(graph, edit)


def _moved(graph: Graph, wanted: Callable[[Call, OpenLoop], bool]) -> Graph:
    def edit(loop: OpenLoop, before: Rewriter, after: Rewriter) -> None:
        _hoist(loop, before, wanted)
        _sink(loop, after, wanted)

    return edit_loops(graph, edit)


def _early(loop: OpenLoop, wanted: Callable[[Call, OpenLoop], bool]) -> set[Call]:
    """Return wanted calls that depend on slices and constants alone, and the calls that they need."""
    early: set[Value] = {*loop.slices, *loop.constants}
    found: set[Call] = set()
    makers: dict[Value, Call] = {}
    for call in loop.calls:
        known = is_known(call) and _waits(call, loop)
        if not known or not all(value in early or value.constant is not None for value in call.values()):
            continue
        early.update(call.outputs)
        makers.update(dict.fromkeys(call.outputs, call))
        waiting = [call] if wanted(call, loop) else []
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += [makers[value] for value in one.values() if value in makers]
    return found


def _hoist(loop: OpenLoop, before: Rewriter, wanted: Callable[[Call, OpenLoop], bool]) -> None:
    """Move wanted calls that wait for nothing carried, and what they are made of, to before the loop."""
    moved = _early(loop, wanted)
    if not moved:
        return
    whole: dict[Value, Value] = {}
    now: dict[Value, Value] = {}
    for call in loop.calls:
        if call in moved:
            operands = [_outside(part, whole, loop) for part in call.inputs]
            whole.update(zip(call.outputs, for_all_steps(before, call, operands, loop.steps), strict=True))
    kept = []
    for call in loop.calls:
        if call in moved and call.name not in VIEWS:
            now.update((value, loop.slice_of(whole[value])) for value in call.outputs)
        else:
            kept.append(call)
    loop.calls = kept
    loop.substitute(now)


def _sink(loop: OpenLoop, after: Rewriter, wanted: Callable[[Call, OpenLoop], bool]) -> None:
    """Move wanted calls that nothing carried depends on, and what is made of them, to after the loop."""
    uses = readers(loop.calls)
    needed = {state.after for state in loop.states}
    for call in reversed(loop.calls):
        if not call.operator.pure or any(value in needed for value in call.outputs):
            needed.update(call.outputs)
            needed.update(call.values())
    can: set[Call] = set()  # that can be done after the loop, with all that is made of them
    for call in reversed(loop.calls):
        is_late = not any(value in needed for value in call.outputs) and is_known(call)
        if is_late and all(user in can for value in call.outputs for user in uses.get(value, ())):
            can.add(call)
    moved: set[Call] = set()
    for call in loop.calls:
        is_moved = call in can and (wanted(call, loop) or any(v.maker in moved for v in call.values()))
        if is_moved and _waits(call, loop):
            moved.add(call)
    if not moved:
        return
    late = [call for call in loop.calls if call in moved]
    loop.calls = [call for call in loop.calls if call not in moved]
    stacks = [pair for pair in loop.stacks if pair[0].maker in moved]
    loop.stacks = [pair for pair in loop.stacks if pair[0].maker not in moved]
    whole: dict[Value, Value] = {}
    for call in late:
        operands = [_outside(part, whole, loop) for part in call.inputs]
        whole.update(zip(call.outputs, for_all_steps(after, call, operands, loop.steps), strict=True))
    after.now.update((stack, whole[value]) for value, stack in stacks)


def _outside(part: Any, whole: dict[Value, Value], loop: OpenLoop) -> tuple[Any, bool]:
    """Return what an operand is for all steps at once, and whether it is stacked; `whole` has been computed so."""
    return (whole[part], True) if isinstance(part, Value) and part in whole else loop.outside(part)


def _waits(call: Call, loop: OpenLoop) -> bool:
    """Return whether an operand differs from step to step."""
    return any(isinstance(part, Value) and part.constant is None and part not in loop.constants for part in call.inputs)
