"""Hoist: what is computed alike at many steps, and does not wait for the step before, is computed for all at once."""

from __future__ import annotations

from typing import Any

from ..elementwise import ELEMENTWISE
from ..graph import Call, Graph, Rewriter, Value
from ..operators import MATMUL, RESHAPE, STACK, UNSTACK, VIEWS
from .simplify import attrs_key, joined_slices, sort

_LARGE = 1 << 12  # elements: above this a call costs little, and what a step has just made is still in cache


def hoist_products(graph: Graph) -> Graph:
    """Make one product of the products of many steps with one matrix."""
    return _hoist(graph, lambda call: call.name == "matmul" and call.inputs[0].ndim == 2 and is_weight(call.inputs[1]))


def hoist_elementwise(graph: Graph) -> Graph:
    """Compute elementwise operations that no step waits for on all steps at once: local derivatives, biases."""
    return _hoist(graph, lambda call: call.name in ELEMENTWISE and call.output.size <= _LARGE)


def _hoist(graph: Graph, wanted: Any) -> Graph:
    groups: dict[Any, list[Call]] = {}
    for call in graph.calls:
        if call.step is not None and len(call.outputs) == 1 and call.operator.pure and wanted(call):
            groups.setdefault(_role(call, 0), []).append(call)
    waiting = [(group, 0) for group in groups.values()]
    while waiting:
        group, depth = waiting.pop()
        if len(group) < 2:
            continue
        if _fits(group) and independent(graph, group):
            graph = _replace(graph, sorted(group, key=lambda call: (call.step, call.output.number)))
        elif depth < 3:
            finer: dict[Any, list[Call]] = {}
            for call in group:
                finer.setdefault(_role(call, depth + 1), []).append(call)
            waiting += [(part, depth + 1) for part in finer.values()]
    return graph


def _role(call: Call, depth: int) -> Any:
    """Return what a call does, as seen from its operands: the same for the same line of a cell at every step.

    The deeper it looks, the more it tells apart; the first and the last step differ from the others if it looks far.
    """
    operands = tuple(_what(part, depth - 1) for part in call.inputs)
    return call.operator.key, attrs_key(call), call.output.shape, call.output.dtype, call.place[1], operands


def _what(part: Any, depth: int) -> Any:
    if not isinstance(part, Value):
        return type(part).__name__, repr(part)
    maker = part.maker
    if maker is None or is_weight(part):
        return id(part)
    if depth < 0 and (maker.step is not None or maker.name == "unstack"):
        return part.shape
    if maker.name == "unstack":
        return "slice", id(maker)
    if maker.step is None:
        return id(part)
    if depth < 0:
        return part.shape
    if depth == 0:
        return maker.name, part.index, part.shape
    return maker.name, part.index, part.shape, tuple(_what(p, depth - 1) for p in maker.inputs)


def is_weight(value: Value) -> bool:
    """Return whether a matrix is the same at all steps: an input, or a view of one."""
    if value.ndim != 2:
        return False
    while value.maker is not None and value.maker.name in VIEWS - {"unstack"}:
        value = value.maker.inputs[0]
    return value.maker is None or (value.maker.step is None and value.maker.name != "unstack")


def _fits(group: list[Call]) -> bool:
    first = group[0]
    for number, part in enumerate(first.inputs):
        if all(call.inputs[number] is part or call.inputs[number] == part for call in group):
            continue
        if not isinstance(part, Value) or (first.name != "matmul" and part.ndim != first.output.ndim):
            return False
        if any(call.inputs[number].shape != part.shape or call.inputs[number].dtype != part.dtype for call in group):
            return False
        if first.name == "matmul" and number == 1:
            return False
    return any(
        isinstance(part, Value) and call.inputs[number] is not part
        for number, part in enumerate(first.inputs)
        for call in group
    )


def independent(graph: Graph, group: list[Call]) -> bool:
    """Return whether no call of a group needs the result of another, however far around."""
    members = set(group)
    reached: set[Value] = set()
    drawn = False  # what draws from a generator waits for the draw before
    for call in graph.calls:
        touched = any(value in reached for value in call.values()) or (drawn and not call.operator.pure)
        if call in members:
            if touched:
                return False
            reached.update(call.outputs)
        elif touched:
            reached.update(call.outputs)
            drawn = drawn or not call.operator.pure
    return True


def _replace(graph: Graph, group: list[Call]) -> Graph:
    members = set(group)
    last = max(number for number, call in enumerate(graph.calls) if call in members)
    new = Rewriter(graph)
    slices: list[Value] = []
    for number, call in enumerate(graph.calls):
        if call not in members:
            new.calls.append(call)
        if number == last:
            slices = batched(new, group)
    now = {call.output: value for call, value in zip(group, slices, strict=True)}
    return sort(substitute(Graph(graph.inputs, new.calls, graph.outputs, graph.captured), now))


def substitute(graph: Graph, now: dict[Value, Value]) -> Graph:
    """Replace values by others wherever they are read; calls keep their identity."""
    new = Rewriter(graph)
    new.now.update(now)
    for call in graph.calls:
        new.keep(call)
    return new.done()


def batched(new: Rewriter, group: list[Call]) -> list[Value]:
    """Append one call for a group of calls, and return what each of them computed, as slices."""
    first = group[0]
    operands = []
    for number, part in enumerate(first.inputs):
        same = all(
            call.inputs[number] is part or (not isinstance(part, Value) and call.inputs[number] == part)
            for call in group
        )
        operands.append(part if same else stacked(new, [call.inputs[number] for call in group]))
    count = len(group)
    if first.name == "matmul":
        rows, K = first.output.shape
        flat = new.call(RESHAPE, [operands[0]], {"shape": (count * rows, first.inputs[0].shape[1])})
        product = new.call(MATMUL, [flat.output, operands[1]])
        whole = new.call(RESHAPE, [product.output], {"shape": (count, rows, K)})
    else:
        whole = new.call(first.operator, operands, first.attrs)
    return list(new.call(UNSTACK, [whole.output], {"axis": 0}).outputs)


def stacked(new: Rewriter, values: list[Value]) -> Value:
    """Append what joins values along a new first axis, without a copy where they are slices, or views of slices."""
    joined = joined_slices(new, values, 0)
    if joined is not None:
        return joined
    makers = [value.maker for value in values]
    first = makers[0]
    if (
        first is not None
        and first.name in VIEWS - {"unstack"}
        and all(
            maker is not None
            and maker.name == first.name
            and attrs_key(maker) == attrs_key(first)
            and value.index == values[0].index
            and maker.inputs[0].shape == first.inputs[0].shape
            for maker, value in zip(makers, values, strict=True)
        )
        and (attrs := _shifted(first)) is not None
    ):
        below = stacked(new, [maker.inputs[0] for maker in makers if maker is not None])
        return new.call(first.operator, [below], attrs).outputs[values[0].index]
    return new.call(STACK, values, {"axis": 0}).output


def _shifted(call: Call) -> dict[str, Any] | None:
    """Return the attributes of a view for arrays with one more axis in front; None where that is not known."""
    ndim = call.inputs[0].ndim
    if call.name == "split":
        return {**call.attrs, "axis": call.attrs["axis"] % ndim + 1}
    if call.name == "transpose":
        axes = call.attrs["axes"]
        axes = tuple(reversed(range(ndim))) if axes is None else axes
        return {"axes": (0, *(a % ndim + 1 for a in axes))}
    if call.name == "getitem":
        index = call.attrs["index"]
        index = index if isinstance(index, tuple) else (index,)
        return {"index": (slice(None), *index)} if all(isinstance(part, slice | int) for part in index) else None
    return None
