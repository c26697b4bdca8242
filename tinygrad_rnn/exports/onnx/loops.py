"""Loops over time as `Scan` nodes."""

from __future__ import annotations

from typing import cast

import numpy as np

from ...compiler.ir.graph import Body, Call, Value
from .blocks import Attribute, Block, Info
from .extents import Length
from .scope import Scope, Writer


def _loop(to: Scope, call: Call) -> list[str]:
    """Write a loop: its carried values are the states of the Scan, its slices the scanned inputs."""
    sized = to.book.sized
    attributes = sized.attributes(call)
    body: Body = call.attrs["body"]
    carried, sliced = body.carried, body.carried + body.sliced
    graph = body.graph
    outer = dict(zip(graph.inputs[sliced:], call.inputs[sliced:], strict=True))
    block = Block(to.book.name("step"))
    inner = Scope(to.book, block, to, outer)
    for value in graph.inputs[:sliced]:
        inner.names[value] = to.book.name("before" if len(block.inputs) < carried else "x_t")
        block.inputs.append(Info(inner.names[value], value.dtype, to.shape(value)))
    starts = [to.name(value) for value in call.inputs[:carried]]
    slices = [to.name(value) for value in call.inputs[carried:sliced]]
    if not slices:  # a Scan takes its number of steps from what it scans
        slices.append(_steps(to, cast(Length, attributes["steps"])))
        block.inputs.append(Info(to.book.name("t"), np.dtype(np.int64), ()))
    for one in graph.calls:
        inner.call(one)
    for value in graph.outputs:
        block.outputs.append(_output(inner, value))
    stacks = len(graph.outputs) - carried
    backward = int(body.reverse)
    about: dict[str, Attribute] = {
        "body": block,
        "num_scan_inputs": len(slices),
        "scan_input_directions": [backward] * len(slices),
    }
    if stacks:
        about["scan_output_directions"] = [backward] * stacks
    return to.nodes("Scan", [*starts, *slices], len(graph.outputs), about)


def _steps(to: Scope, steps: Length) -> str:
    return to.node("Range", to.scalar(0), to.scalar(steps), to.scalar(1))


def _output(inner: Scope, value: Value) -> Info:
    """Return an output of a body: a value that is none of its own, or two outputs, is passed on under another name."""
    name = inner.names.get(value, "")
    used = {info.name for info in (*inner.block.inputs, *inner.block.outputs)}
    if not name or name in used:
        name = inner.node("Identity", inner.name(value), name="after")
    return Info(name, value.dtype, inner.shape(value))


def _recurrence(to: Scope, call: Call) -> list[str]:
    """Write h[t] = a[t] * h[t-1] + b[t] along the first axis, h[-1] = 0."""
    shape, dtype = to.shape(call.output), call.output.dtype
    names = [
        to.expand(to.operand(part, dtype), to.shape(part) if isinstance(part, Value) else (), shape)
        for part in to.book.sized.inputs(call)
    ]
    start = to.expand(to.constant(0, dtype), (), shape[1:])
    block = Block(to.book.name("step"))
    before, a, b = (to.book.name(name) for name in ("before", "a_t", "b_t"))
    block.inputs = [Info(name, dtype, shape[1:]) for name in (before, a, b)]
    inner = Scope(to.book, block, to)
    after = inner.node("Add", inner.node("Mul", a, before), b)
    block.outputs = [Info(name, dtype, shape[1:]) for name in (after, inner.node("Identity", after))]
    return [to.nodes("Scan", [start, *names], 2, {"body": block, "num_scan_inputs": 2})[1]]


def _cumprod(to: Scope, call: Call) -> list[str]:
    """Write the products of the elements up to each along an axis."""
    part = cast(Value, call.inputs[0])
    shape, dtype = to.shape(call.output), call.output.dtype
    axis = int(call.attrs["axis"]) % len(shape)
    perm = [axis, *(other for other in range(len(shape)) if other != axis)]
    inner_shape = tuple(shape[other] for other in perm[1:])
    block = Block(to.book.name("step"))
    before, x = to.book.name("before"), to.book.name("x_t")
    block.inputs = [Info(name, dtype, inner_shape) for name in (before, x)]
    inner = Scope(to.book, block, to)
    after = inner.node("Mul", before, x)
    block.outputs = [Info(name, dtype, inner_shape) for name in (after, inner.node("Identity", after))]
    start = to.expand(to.constant(1, dtype), (), inner_shape)
    first = to.node("Transpose", to.operand(part, dtype), perm=perm)
    stack = to.nodes("Scan", [start, first], 2, {"body": block, "num_scan_inputs": 1})[1]
    return [to.node("Transpose", stack, perm=[perm.index(place) for place in range(len(shape))])]


LOOPS: dict[str, Writer] = {"loop": _loop, "linear_recurrence": _recurrence, "cumprod": _cumprod}
"""Writers of loops over time, by name of the operator."""
