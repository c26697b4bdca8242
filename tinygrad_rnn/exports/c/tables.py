"""Products of rows of a constant table: the table is multiplied when the program is written."""

from __future__ import annotations

import math

from ...compiler.ir.graph import Call, Graph, Rewriter, Value
from ...compiler.passes.common import Operands, rewrite
from ...compiler.passes.lookups import product_of_rows


def multiply_tables(graph: Graph) -> Graph:
    """Multiply constant tables instead of the rows that are looked up in them, where that takes no more memory.

    With constants E (V, D) and W (D, M):

        take(E, ids) @ W    becomes    take(E @ W, ids)

    and E @ W (V, M) is in turn a constant. A step of a model of characters or bytes reads M numbers in place of D * M,
    and a table of fewer rows than W has takes less memory. E is kept where something else reads it, as the output layer
    of a model with tied weights does.
    """
    uses = graph.uses()
    kept = {*graph.outputs}
    looked_up = {
        call: taken
        for taken in graph.calls
        if taken.name == "take" and _is_table(taken) and not kept & {*taken.outputs}
        for call in _products(taken, uses, kept)
    }

    def rule(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
        taken = looked_up.get(call)
        if taken is None:
            return None
        return [product_of_rows(new, taken, inputs[1], call.output.shape)]

    return rewrite(graph, rule)


def _is_table(taken: Call) -> bool:
    table, ids = taken.inputs[0], taken.attrs["indices"]
    return isinstance(ids, Value) and taken.attrs["axis"] == 0 and table.ndim == 2 and table.constant is not None


def _products(taken: Call, uses: dict[Value, list[Call]], kept: set[Value]) -> list[Call]:
    """Return the products that read the rows of a lookup; none if anything else does, or memory would grow."""
    table, found, values = taken.inputs[0], list[Call](), [taken.output]
    for value in values:
        for call in uses.get(value, ()):
            same_rows = call.name == "reshape" or (call.name == "unstack" and len(call.outputs) == 1)
            if same_rows and call.outputs[0].shape[-1:] == value.shape[-1:] and not kept & {*call.outputs}:
                values += call.outputs
            elif call.name == "matmul" and _is_product(call, value, taken):
                found.append(call)
            else:
                return []
    V, D = table.shape
    matrices = {call.inputs[1] for call in found}
    freed = sum(D * W.shape[1] for W in matrices if all(call in found for call in uses[W]))
    freed += V * D if uses[table] == [taken] else 0
    return found if sum(V * W.shape[1] for W in matrices) <= freed else []


def _is_product(call: Call, rows: Value, taken: Call) -> bool:
    """Return whether a call multiplies rows of the table with a constant matrix."""
    left, W = call.inputs
    one_by_one = left.shape == (math.prod(taken.attrs["indices"].shape), taken.inputs[0].shape[1])
    constant = isinstance(W, Value) and W.constant is not None and W.ndim == 2
    return left is rows and one_by_one and constant and left.dtype == W.dtype == call.output.dtype
