"""Sequences with time as their first axis: transposes move down the graph until none is left.

Users write (N, T, D). A step needs its slice in one piece, so (T, N, D), and products need rows, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.table import ELEMENTWISE
from .common import Operands, Rule, axes_of, maker_of, outer_product, product, reshaped, rewrite, rows, transposed


def time_first(graph: Graph) -> Graph:
    """Move transposes past operations on rows: products, elementwise operations, the loss, lookups."""

    def rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
        move = _elementwise if call.name in ELEMENTWISE else _RULES.get(call.name)
        return None if move is None else move(call, inputs, new)

    return rewrite(graph, rule)


def _turned(part: object) -> tuple[Value, tuple[int, ...]] | None:
    """Return (array, axes) if a value is an array with its leading axes transposed, the last one in place, or None."""
    maker = maker_of(part, "transpose")
    axes = () if maker is None else axes_of(maker)
    return (maker.inputs[0], axes) if maker is not None and len(axes) > 2 and axes[-1] == len(axes) - 1 else None


def _take(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Transpose the ids of a lookup instead of the rows that it takes."""
    maker, axes = maker_of(inputs[0], "take"), axes_of(call)
    if maker is None or not _is_table(maker, maker.output) or len(axes) < 3 or axes[-1] != len(axes) - 1:
        return None
    attrs = {**maker.attrs, "indices": transposed(new, maker.attrs["indices"], axes[:-1])}
    return [new.call(maker.operator, maker.inputs, attrs, [(call.output.shape, call.output.dtype)]).output]


def _product(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    turned = _turned(inputs[0])
    if turned is None or inputs[1].ndim != 2:
        return None
    source, axes = turned
    return [transposed(new, product(new, source, inputs[1]), axes)]


def _with_ids(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Transpose the ids that go with the rows of a loss, of its gradient, or of the gradient of a lookup."""
    name = "indices" if call.name == "take_back" else "targets"
    turned = _turned(inputs[0])
    if turned is None or (call.name == "take_back" and not _is_table(call, inputs[0])):
        return None
    source, axes = turned
    ids = transposed(new, new.get(call.attrs[name]), np.argsort(axes[:-1]).tolist())
    of_rows = call.name == "cross_entropy_back"
    specs = [(source.shape if of_rows else call.output.shape, call.output.dtype)]
    made = new.call(call.operator, [source, *inputs[1:]], {**call.attrs, name: ids}, specs).output
    return [transposed(new, made, axes) if of_rows else made]


def _is_table(call: Call, taken: Value) -> bool:
    """Return whether rows of a matrix are looked up, by ids of any shape."""
    ids = call.attrs["indices"]
    return call.attrs["axis"] == 0 and isinstance(ids, Value) and taken.ndim == ids.ndim + 1


def _column_sum(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    turned, leading = _turned(inputs[0]), tuple(range(inputs[0].ndim - 1))
    if turned is None or call.attrs["keepdims"] or tuple(sorted(axes_of(call))) != leading:
        return None
    return [new.call(call.operator, turned[:1], {**call.attrs, "axis": leading}).output]


def _elementwise(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    turned = [_turned(part) for part in inputs]
    orders = {found[1] for found in turned if found}
    fixed = [part for part, found in zip(inputs, turned, strict=True) if not found]
    if len(orders) != 1 or any(isinstance(part, Value) and part.ndim > 1 for part in fixed):
        return None
    parts = [found[0] if found else part for part, found in zip(inputs, turned, strict=True)]
    made = new.call(call.operator, parts, call.attrs)
    made.cotangent = call.cotangent
    return [transposed(new, made.output, orders.pop())]


_RULES: dict[str, Rule] = {
    "transpose": _take,
    "matmul": _product,
    "sum": _column_sum,
    **dict.fromkeys(("cross_entropy", "cross_entropy_back", "take_back"), _with_ids),
}


def flat_products(graph: Graph) -> Graph:
    """Make products of stacks of rows products of matrices, and drop transposes of rows that a product sums over."""

    def rule(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
        if call.name != "matmul":
            return None
        if inputs[0].ndim > 2 and inputs[1].ndim == 2:
            return [reshaped(new, product(new, rows(new, inputs[0]), inputs[1]), call.output.shape)]
        pair = _unordered(inputs)
        return None if pair is None else [outer_product(new, *pair)]

    return rewrite(graph, rule)


def _unordered(inputs: Operands) -> tuple[Value, Value] | None:
    """Return (A, B) if a product is rows(transposed A).T @ rows(transposed B): the order of rows does not matter."""
    left = maker_of(inputs[0], "transpose")
    if left is None or inputs[0].ndim != 2:
        return None
    found = []
    for part in (left.inputs[0], inputs[1]):
        maker = maker_of(part, "reshape")
        turned = None if maker is None else _turned(maker.inputs[0])
        if turned is None or part.ndim != 2 or turned[0].shape[-1] != part.shape[-1]:
            return None
        found.append(turned)
    (a, first), (b, second) = found
    return (a, b) if first == second and a.shape[:-1] == b.shape[:-1] else None
