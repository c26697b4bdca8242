"""Sparse gradients of lookups: ids and rows of values, which stay in this form until the update.

The gradient of a table is zero in every row that was not looked up, so an update that subtracts it, times numbers,
changes only the rows that were. A dense gradient would be written as a table of zeros, read again for each number, and
subtracted into a new table.
"""

from __future__ import annotations

import math

import numpy as np

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import MULTIPLY
from ..replay.kernels import EQUAL_ROWS, SUBTRACT_ROWS

_NORMS = "tinygrad_rnn.optim.clipping.norms"


def sparse_updates(graph: Graph) -> Graph:
    """Compute W - s * take_back(g, ids) from the rows that the ids name, and leave all others of W as they are.

    Rows with the same id are added up, multiplied and subtracted in the order and the dtype of the dense form, so the
    named rows are bitwise the same, and so are the others: W - s * 0 is W. (Exceptions: with an s below 0 the dense
    form turns a -0.0 in the others into 0.0, and with an s that is not finite it turns them into NaN.) `s` is a number,
    a value of shape (), or a product of several of these. Other readers of the gradient keep it dense, except norms for
    clipping, to which zeros add nothing. Updates of more than half of a table stay dense: nothing would be saved.
    """
    uses = graph.uses()
    returned = set(graph.outputs)
    updates: dict[Call, tuple[Call, list[Call]]] = {}
    for call in graph.calls:
        found = _update(call, uses, returned)
        if found is not None:
            updates[call] = found
    if not updates:
        return graph
    lookups = {back for back, _ in updates.values()}
    dropped = {call for _, factors in updates.values() for call in factors}
    new = Rewriter(graph)
    parts: dict[Call, tuple[Value, Value]] = {}
    for call in graph.calls:
        if call in lookups:
            rows, places = parts[call] = _rows(new, call)
            new.now[call.output] = rows  # for the norms
        elif call in updates:
            back, factors = updates[call]
            rows, places = parts[back]
            for factor in factors:
                # The number stays on its side, as in the dense form, so that a NaN keeps its bits.
                inputs = [rows if part is _scaled(factor) else new.get(part) for part in factor.inputs]
                rows = new.call(MULTIPLY, inputs, {}, [rows.spec], factor.place).output
            operands = [new.get(call.inputs[0]), rows, places]
            new.now[call.output] = new.call(SUBTRACT_ROWS, operands, {}, [call.output.spec], call.place).output
        elif call not in dropped:
            new.keep(call)
    return new.done()


def _rows(new: Rewriter, back: Call) -> tuple[Value, Value]:
    """Append a sparse gradient: its rows, and the places in the table that they belong to."""
    ids = new.get(back.attrs["indices"])
    V, *row = back.output.shape
    count = math.prod(ids.shape)
    specs = [((count, *row), back.output.dtype), ((count,), np.dtype(np.int64))]
    made = new.call(EQUAL_ROWS, [new.get(back.inputs[0])], {"indices": ids, "length": V}, specs, back.place)
    return made.outputs[0], made.outputs[1]


def _update(call: Call, uses: dict[Value, list[Call]], returned: set[Value]) -> tuple[Call, list[Call]] | None:
    """Return (gradient of a lookup, multiplications of it in order) if a call subtracts that from a table, or None."""
    if call.name != "subtract":
        return None
    if not all(isinstance(part, Value) and part.spec == call.output.spec for part in call.inputs):
        return None
    table, part = call.inputs
    if table is part:
        return None
    factors: list[Call] = []
    reader = call
    while part.maker is not None and part not in returned:
        maker, readers = part.maker, uses[part]
        others = [other for other in readers if other is not reader]
        if maker.name == "take_back":
            ids = maker.attrs["indices"]
            plain = maker.attrs["axis"] == 0 and 2 * math.prod(ids.shape) <= part.shape[0]
            floating = part.dtype.kind == "f"
            alone = readers.count(reader) == 1 and all(map(_measures, others))
            return (maker, factors[::-1]) if plain and floating and alone else None
        scaled = _scaled(maker)
        if scaled is None or others:
            return None
        factors.append(maker)
        reader, part = maker, scaled
    return None


def _scaled(call: Call) -> Value | None:
    """Return the array that a call multiplies by one number, in the dtype of the array; else None."""
    if call.name != "multiply":
        return None
    for part, number in (call.inputs, call.inputs[::-1]):
        is_number = number.shape == () if isinstance(number, Value) else type(number) in (int, float)
        if is_number and isinstance(part, Value) and part.ndim and part.spec == call.output.spec:
            return part
    return None


def _measures(call: Call) -> bool:
    """Return whether a call computes norms of gradients, and would not name the shape of one in an error."""
    return call.name == _NORMS and not call.attrs["names"]
