"""Loop-invariant code motion, hoisting and sinking: calls that no step waits for leave their loop.

Calls that depend on slices and constants alone are hoisted: computed for all steps at once, before the loop. Calls that
no carried value depends on are sunk: computed for all steps at once, after it. Loop-invariant calls are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..ir.editing import OpenLoop, edit_loops
from ..ir.graph import Call, Graph, Rewriter, Value, map_attrs
from ..ir.table import ELEMENTWISE, VIEWS
from .common import before_reshapes
from .over_time import Operand, for_all_steps, is_known

_LARGE = 1 << 12  # elements; above this the overhead of a call is small, and within a step operands are in cache


def move_products(graph: Graph) -> Graph:
    """Compute products with a loop-invariant matrix for all steps at once."""

    def wanted(call: Call, loop: OpenLoop) -> bool:
        if call.name != "matmul" or any(part.ndim != 2 for part in call.inputs):
            return False
        return call.inputs[1].constant is not None or call.inputs[1] in loop.constants

    return _moved(graph, wanted)


def move_elementwise(graph: Graph) -> Graph:
    """Compute small elementwise operations for all steps at once: local derivatives, biases.

    The addition of a bias to a product or a lookup is moved whatever its size: the library adds it within the product.
    """

    def wanted(call: Call, loop: OpenLoop) -> bool:
        return call.name in ELEMENTWISE and (call.output.size <= _LARGE or _is_bias(call, loop))

    return _moved(graph, wanted)


def _is_bias(call: Call, loop: OpenLoop) -> bool:
    if call.name != "add":
        return False
    for part, bias in (call.inputs, call.inputs[::-1]):
        if part in loop.slices and bias in loop.constants and bias.shape == part.shape[-1:]:
            maker = before_reshapes(loop.slices[part]).maker
            return maker is not None and maker.name in ("matmul", "take")
    return False


def hoist_invariants(graph: Graph) -> Graph:
    """Compute loop-invariant calls once, before the loop."""

    def edit(loop: OpenLoop, before: Rewriter, _: Rewriter) -> None:
        now: dict[Value, Value] = {}

        def outside(part: object) -> object:
            inner = now.get(part, part) if isinstance(part, Value) else None
            return part if inner is None else loop.constants.get(inner, inner)

        kept = []
        for call in loop.calls:
            operands = [now.get(value, value) for value in call.values()]
            is_fixed = call.operator.pure and not any(_varies(value, loop) for value in operands)
            if not is_fixed or not operands:
                kept.append(call)
                continue
            inputs, specs = tuple(map(outside, call.inputs)), [value.spec for value in call.outputs]
            made = before.call(call.operator, inputs, map_attrs(outside, call.attrs), specs, call.place)
            made.cotangent = call.cotangent
            now.update((old, loop.constant(new)) for old, new in zip(call.outputs, made.outputs, strict=True))
        loop.calls = kept
        loop.substitute(now)

    return edit_loops(graph, edit)


Wanted = Callable[[Call, OpenLoop], bool]
"""Returns whether a call of a body is worth moving; the calls that it needs (or that need it, if sunk) go with it."""


def _moved(graph: Graph, wanted: Wanted) -> Graph:
    def edit(loop: OpenLoop, before: Rewriter, after: Rewriter) -> None:
        _hoist(loop, before, wanted)
        _sink(loop, after, wanted)

    return edit_loops(graph, edit)


def _hoist(loop: OpenLoop, before: Rewriter, wanted: Wanted) -> None:
    """Move wanted calls that depend on no carried value, and the calls that they need, to before the loop."""
    moved = _early(loop, wanted)
    whole = _for_all_steps(loop, before, [call for call in loop.calls if call in moved])
    now: dict[Value, Value] = {}
    kept = []
    for call in loop.calls:
        if call in moved and call.name not in VIEWS:
            now.update((value, loop.slice_of(whole[value])) for value in call.outputs)
        else:
            kept.append(call)
    loop.calls = kept
    loop.substitute(now)


def _early(loop: OpenLoop, wanted: Wanted) -> set[Call]:
    """Return wanted calls that depend on slices and constants alone, and the calls that they need."""
    early: set[Value] = {*loop.slices, *loop.constants}
    found: set[Call] = set()
    makers: dict[Value, Call] = {}
    for call in loop.calls:
        known = is_known(call) and any(_varies(part, loop) for part in call.inputs)
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


def _sink(loop: OpenLoop, after: Rewriter, wanted: Wanted) -> None:
    """Move wanted calls that no carried value depends on, and the calls that need them, to after the loop."""
    moved = _late(loop, wanted)
    late, loop.calls = ([c for c in loop.calls if c in moved], [c for c in loop.calls if c not in moved])
    stacks = [pair for pair in loop.stacks if pair[0].maker in moved]
    loop.stacks = [pair for pair in loop.stacks if pair[0].maker not in moved]
    whole = _for_all_steps(loop, after, late)
    after.now.update((stack, whole[value]) for value, stack in stacks)


def _late(loop: OpenLoop, wanted: Wanted) -> set[Call]:
    """Return wanted calls that no carried value depends on, and the calls that need them."""
    uses = loop.uses()
    needed = {state.after for state in loop.states}
    can: set[Call] = set()  # calls that can follow the loop, as can all calls that read them
    for call in reversed(loop.calls):
        if not call.operator.pure or any(value in needed for value in call.outputs):
            needed.update((*call.outputs, *call.values()))
        elif is_known(call) and all(user in can for value in call.outputs for user in uses.get(value, ())):
            can.add(call)
    moved: set[Call] = set()
    for call in loop.calls:
        is_moved = call in can and (wanted(call, loop) or any(value.maker in moved for value in call.values()))
        if is_moved and any(_varies(part, loop) for part in call.inputs):
            moved.add(call)
    return moved


def _for_all_steps(loop: OpenLoop, new: Rewriter, calls: Iterable[Call]) -> dict[Value, Value]:
    """Append calls of a body for all steps at once; return for each result the value for all steps."""
    whole: dict[Value, Value] = {}

    def outside(part: object) -> Operand:
        maker = part.maker if isinstance(part, Value) and part not in whole else None
        if maker is not None and maker.name in VIEWS and is_known(maker) and maker.inputs[0] in loop.slices:
            move(maker)  # a view of a slice is one of the whole: no step copies it
        return (whole[part], True) if isinstance(part, Value) and part in whole else loop.outside(part)

    def move(call: Call) -> None:
        made = for_all_steps(new, call, list(map(outside, call.inputs)), loop.steps)
        whole.update(zip(call.outputs, made, strict=True))

    for call in calls:
        move(call)
    return whole


def _varies(part: object, loop: OpenLoop) -> bool:
    """Return whether an operand differs from step to step."""
    return isinstance(part, Value) and part.constant is None and part not in loop.constants
