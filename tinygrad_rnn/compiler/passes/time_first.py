"""Arrays of a sequence with time as their first axis: transposes move down the graph until nothing is left to turn.

Users write (N, T, D). Steps want each step's slice in one piece, (T, N, D), and products want rows, in any order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import MATMUL, RESHAPE, TRANSPOSE, UNSTACK
from ..ir.table import ELEMENTWISE


def time_first(graph: Graph) -> Graph:
    """Move transposes to after what works on rows: products, elementwise operations, the loss, lookups."""
    new = Rewriter(graph)
    for call in graph.calls:
        now = _moved(call, [new.get(part) for part in call.inputs], new)
        if now is None:
            new.keep(call)
        else:
            new.now.update(zip(call.outputs, now, strict=True))
    return new.done()


def _turned(part: Any) -> tuple[Value, tuple[int, ...]] | None:
    """Return (array, axes) if a value is an array with its leading axes in another order, the last one in its place."""
    maker = part.maker if isinstance(part, Value) else None
    if maker is None or maker.name != "transpose":
        return None
    axes = maker.attrs["axes"]
    ndim = part.ndim
    axes = tuple(reversed(range(ndim))) if axes is None else tuple(a % ndim for a in axes)
    if ndim < 3 or axes[-1] != ndim - 1:
        return None
    return maker.inputs[0], axes


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(a) for a in np.argsort(axes))


def _transposed(new: Rewriter, value: Value, axes: tuple[int, ...], call: Call) -> Value:
    return new.call(TRANSPOSE, [value], {"axes": axes}, place=call.place).output


def _moved(call: Call, inputs: list[Any], new: Rewriter) -> list[Value] | None:
    if call.name == "unstack":
        found = _turned_any(inputs[0])
        if found is None:
            return None
        source, axes = found
        axis = axes[call.attrs["axis"] % len(axes)]
        rest = [a for a in axes if a != axis]
        if rest != sorted(rest):
            return None
        return list(new.call(UNSTACK, [source], {"axis": axis}, place=call.place).outputs)
    if (
        call.name == "transpose"
        and isinstance(inputs[0], Value)
        and inputs[0].maker is not None
        and inputs[0].maker.name == "take"
    ):
        return _take_turned(call, inputs[0], new)
    turned = [_turned(part) for part in inputs]
    if not any(turned):
        return None
    if call.name == "matmul" and turned[0] and inputs[1].ndim == 2:
        source, axes = turned[0]
        return [_transposed(new, new.call(MATMUL, [source, inputs[1]], place=call.place).output, axes, call)]
    if call.name in ELEMENTWISE:
        return _elementwise(call, inputs, turned, new)
    if call.name == "cross_entropy" and turned[0]:
        source, axes = turned[0]
        ids = _transposed(new, new.get(call.attrs["targets"]), _inverse(axes)[:-1], call)
        return [new.call(call.operator, [source], {**call.attrs, "targets": ids}, _specs(call), call.place).output]
    if call.name == "cross_entropy_back" and turned[0]:
        source, axes = turned[0]
        ids = _transposed(new, new.get(call.attrs["targets"]), _inverse(axes)[:-1], call)
        specs = [(source.shape, call.output.dtype)]
        made = new.call(call.operator, [source, *inputs[1:]], {**call.attrs, "targets": ids}, specs, call.place)
        return [_transposed(new, made.output, axes, call)]
    if call.name == "take_back" and turned[0] and _is_table(call, inputs[0]):
        source, axes = turned[0]
        ids = _transposed(new, new.get(call.attrs["indices"]), _inverse(axes)[:-1], call)
        return [new.call(call.operator, [source], {**call.attrs, "indices": ids}, _specs(call), call.place).output]
    if call.name == "sum" and turned[0] and not call.attrs["keepdims"]:
        source, axes = turned[0]
        over = call.attrs["axis"]
        over = tuple(range(len(axes))) if over is None else (over,) if isinstance(over, int) else over
        if tuple(sorted(a % len(axes) for a in over)) == tuple(range(len(axes) - 1)):
            return [
                new.call(
                    call.operator, [source], {**call.attrs, "axis": tuple(range(len(axes) - 1))}, place=call.place
                ).output
            ]
    return None


def _specs(call: Call) -> list[Any]:
    return [(value.shape, value.dtype) for value in call.outputs]


def _turned_any(part: Any) -> tuple[Value, tuple[int, ...]] | None:
    maker = part.maker if isinstance(part, Value) else None
    if maker is None or maker.name != "transpose":
        return None
    axes = maker.attrs["axes"]
    return maker.inputs[0], tuple(reversed(range(part.ndim))) if axes is None else tuple(a % part.ndim for a in axes)


def _is_table(call: Call, rows: Value) -> bool:
    """Return whether rows of a matrix are looked up, by ids of any shape."""
    ids = call.attrs["indices"]
    return call.attrs["axis"] == 0 and isinstance(ids, Value) and rows.ndim == ids.ndim + 1


def _take_turned(call: Call, taken: Value, new: Rewriter) -> list[Value] | None:
    """Take with the ids in the other order instead of turning what was taken."""
    maker = taken.maker
    axes = call.attrs["axes"]
    if (
        maker is None
        or not _is_table(maker, taken)
        or axes is None
        or taken.ndim < 3
        or axes[-1] % taken.ndim != taken.ndim - 1
    ):
        return None
    ids = _transposed(new, maker.attrs["indices"], tuple(a % taken.ndim for a in axes[:-1]), call)
    specs = [(call.output.shape, call.output.dtype)]
    return [new.call(maker.operator, maker.inputs, {**maker.attrs, "indices": ids}, specs, call.place).output]


def _elementwise(call: Call, inputs: list[Any], turned: list[Any], new: Rewriter) -> list[Value] | None:
    axes = next(found[1] for found in turned if found)
    parts = []
    for part, found in zip(inputs, turned, strict=True):
        if found:
            if found[1] != axes:
                return None
            parts.append(found[0])
        elif isinstance(part, Value) and part.ndim > 1:
            return None
        else:
            parts.append(part)
    made = new.call(call.operator, parts, call.attrs, place=call.place)
    made.cotangent = call.cotangent
    return [_transposed(new, made.output, axes, call)]


def flat_products(graph: Graph) -> Graph:
    """Make products of stacks of rows products of matrices, and drop the order of rows that are summed."""
    new = Rewriter(graph)
    for call in graph.calls:
        inputs = [new.get(part) for part in call.inputs]
        if call.name == "matmul" and inputs[0].ndim > 2 and inputs[1].ndim == 2:
            rows = new.call(
                RESHAPE,
                [inputs[0]],
                {"shape": (math.prod(inputs[0].shape[:-1]), inputs[0].shape[-1])},
                place=call.place,
            ).output
            flat = new.call(MATMUL, [rows, inputs[1]], place=call.place).output
            new.now[call.output] = new.call(RESHAPE, [flat], {"shape": call.output.shape}, place=call.place).output
        elif call.name == "matmul" and (pair := _unordered(inputs)) is not None:
            left, right = (
                new.call(
                    RESHAPE, [part], {"shape": (math.prod(part.shape[:-1]), part.shape[-1])}, place=call.place
                ).output
                for part in pair
            )
            turned = new.call(TRANSPOSE, [left], {"axes": (1, 0)}, place=call.place).output
            new.now[call.output] = new.call(MATMUL, [turned, right], place=call.place).output
        else:
            new.keep(call)
    return new.done()


def _unordered(inputs: list[Any]) -> tuple[Value, Value] | None:
    """Return (A, B) if a product is rows(turned A).T @ rows(turned B): the order of the rows does not matter."""
    left = inputs[0].maker
    if left is None or left.name != "transpose" or inputs[0].ndim != 2:
        return None
    found = []
    for rows in (left.inputs[0], inputs[1]):
        maker = rows.maker if isinstance(rows, Value) else None
        if maker is None or maker.name != "reshape" or rows.ndim != 2:
            return None
        turned = _turned(maker.inputs[0])
        if turned is None or turned[0].shape[-1] != rows.shape[-1]:
            return None
        found.append(turned)
    (a, first), (b, second) = found
    return (a, b) if first == second and a.shape[:-1] == b.shape[:-1] else None
