"""Products of looked-up rows: a table of few rows is multiplied as a whole, before its rows are looked up."""

from __future__ import annotations

import math

from ..ir.arrays import Shape
from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import TAKE_BACK
from .common import Operands, before_reshapes, is_outer, maker_of, product, reshaped, rewrite, transposed

_SAVED = 2  # least number of ids for each row of the table


def lookup_products(graph: Graph) -> Graph:
    """Multiply a table instead of the rows that are looked up in it, where that is at most half of the arithmetic.

    With E (V, D), ids of n rows, W (D, M) and d (n, M):

        take(E, ids) @ W           becomes  take(E @ W, ids)
        take(E, ids).T @ d         becomes  E.T @ take_back(d, ids)
        take_back(d @ W.T, ids)    becomes  take_back(d, ids) @ W.T

    The last two add up rows of d with the same id before multiplying. Rows of E that no id names are multiplied by 0,
    so if one of them is not finite, E.T @ take_back(d, ids) has NaN.
    """
    uses = graph.uses()

    def rule(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
        if call.name == "take_back":
            return _of_gradient(call, inputs, new, uses)
        if is_outer(call):
            return _outer(inputs, new)
        return _of_rows(call, inputs, new) if call.name == "matmul" else None

    return rewrite(graph, rule)


def _of_rows(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    taken = _taken(inputs[0])
    if taken is None or inputs[1].ndim != 2:
        return None
    return [product_of_rows(new, taken, inputs[1], call.output.shape)]


def product_of_rows(new: Rewriter, taken: Call, W: Value, shape: Shape) -> Value:
    """Append take(E @ W, ids), in the shape of the product take(E, ids) @ W that it replaces."""
    table, ids = product(new, taken.inputs[0], W), taken.attrs["indices"]
    specs = [((*ids.shape, table.shape[1]), table.dtype)]
    return reshaped(new, new.call(taken.operator, [table], taken.attrs, specs).output, shape)


def _outer(inputs: Operands, new: Rewriter) -> list[Value] | None:
    taken, d = _taken(inputs[0].maker.inputs[0]), inputs[1]
    if taken is None or taken.output.dtype != d.dtype:
        return None
    table = taken.inputs[0]
    return [product(new, transposed(new, table, (1, 0)), _added(new, d, taken.attrs["indices"], table.shape[0]))]


def _of_gradient(call: Call, inputs: Operands, new: Rewriter, uses: dict[Value, list[Call]]) -> list[Value] | None:
    ids = new.get(call.attrs["indices"])
    multiplied = maker_of(before_reshapes(inputs[0]), "matmul")
    if multiplied is None or not _saves(ids, call.attrs["axis"], call.output) or len(uses[call.inputs[0]]) > 1:
        return None
    d, W = multiplied.inputs
    if d.shape != (math.prod(ids.shape), W.shape[0]) or W.ndim != 2 or not d.dtype == W.dtype == call.output.dtype:
        return None
    return [product(new, _added(new, d, ids, call.output.shape[0]), W)]


def _taken(part: Value) -> Call | None:
    """Return the lookup whose rows an operand is, as a matrix, if the table has few rows; else None."""
    taken = maker_of(before_reshapes(part), "take")
    if taken is None or not _saves(taken.attrs["indices"], taken.attrs["axis"], taken.inputs[0]):
        return None
    return taken if part.shape == (math.prod(taken.attrs["indices"].shape), taken.inputs[0].shape[1]) else None


def _saves(ids: object, axis: int, table: Value) -> bool:
    """Return whether so many rows of a table are looked up that multiplying the table is less arithmetic."""
    if not isinstance(ids, Value) or axis != 0 or table.ndim != 2 or table.dtype.kind != "f":
        return False
    return math.prod(ids.shape) >= _SAVED * table.shape[0] > 0


def _added(new: Rewriter, d: Value, ids: Value, V: int) -> Value:
    """Append the sums (V, M) of the rows of d with the same id."""
    shape = V, d.shape[1]
    attrs = {"indices": ids, "axis": 0, "shape": shape}
    return new.call(TAKE_BACK, [reshaped(new, d, (*ids.shape, d.shape[1]))], attrs, [(shape, d.dtype)]).output
