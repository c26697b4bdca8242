"""Loops in the bodies of loops: a scan in a scan, which is recorded step by step, as a scan in a scan again.

`roll` makes a loop of the steps where they repeat. In a backward pass they read what the forward pass returned of each
step of its inner loop, one array for each; these become one array that the inner loop goes along.
"""

from __future__ import annotations

from ..compiler.ir.arrays import DType, Shape
from ..compiler.ir.editing import OpenLoop, edit_loops, in_bodies
from ..compiler.ir.graph import Call, Graph, Rewriter, Value
from ..compiler.ir.operators import UNSTACK
from ..compiler.passes.rolling.roll import roll

_FEW = 4  # arrays that are not worth joining


def nested_loops(graph: Graph) -> Graph:
    """Make loops of what repeats in the bodies of loops."""
    graph = in_bodies(roll, roll(graph))
    return in_bodies(roll, edit_loops(graph, _join_slices))


def _join_slices(loop: OpenLoop, before: Rewriter, _: Rewriter) -> None:
    """Slice one stack in place of those that an earlier loop returned of the parts of one array."""
    groups: dict[tuple[Call, Value], list[tuple[Value, int]]] = {}
    for inner, outer in loop.slices.items():
        if (found := _part(outer)) is not None:
            producer, part = found
            groups.setdefault((producer, part.maker.inputs[0]), []).append((inner, part.index))  # type: ignore[union-attr]
    for (producer, whole), members in groups.items():
        if len(members) < _FEW:
            continue
        opened = OpenLoop(producer)
        stack = opened.stack_of(whole)
        opened.close()
        parts = Call(UNSTACK, [loop.slice_of(stack)], {"axis": 0}, _specs(whole))
        now = {inner: parts.outputs[index] for inner, index in members}
        loop.slices = {inner: outer for inner, outer in loop.slices.items() if inner not in now}
        loop.calls.insert(0, parts)
        loop.substitute(now)


def _part(stack: Value) -> tuple[Call, Value] | None:
    """Return the loop that returned a stack, and the value in its body, if that is a part of an array."""
    producer = stack.maker
    if producer is None or producer.name != "loop":
        return None
    body = producer.attrs["body"]
    number = stack.index - body.carried
    value: Value | None = body.graph.outputs[stack.index] if number >= 0 else None
    maker = None if value is None else value.maker
    if value is None or maker is None or maker.name != "unstack" or maker.attrs["axis"] != 0:
        return None
    return producer, value


def _specs(whole: Value) -> list[tuple[Shape, DType]]:
    return [(whole.shape[1:], whole.dtype)] * whole.shape[0]
