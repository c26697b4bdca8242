"""What several passes ask of a graph, and do to it."""

from __future__ import annotations

from typing import Any

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import STACK
from ..ir.table import VIEWS
from .simplify import attrs_key, joined_slices


def is_weight(value: Value) -> bool:
    """Return whether a matrix is the same at all steps: an input, or a view of one."""
    if value.ndim != 2:
        return False
    while value.maker is not None and value.maker.name in VIEWS - {"unstack"}:
        value = value.maker.inputs[0]
    return value.maker is None or (value.maker.step is None and value.maker.name != "unstack")


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


def substitute(graph: Graph, now: dict[Value, Value]) -> Graph:
    """Replace values by others wherever they are read; calls keep their identity."""
    new = Rewriter(graph)
    new.now.update(now)
    for call in graph.calls:
        new.keep(call)
    return new.done()


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
