"""Sparse gradients of lookups: they stay rows and their values until the update.

The gradient of a table of which a few rows were looked up is zero in all others. An update that only subtracts it,
times numbers, changes those rows alone; a dense gradient would be a table of zeros that is written, and read for each
number, and a new table after it.
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

    Rows with the same id are added up, multiplied and subtracted in the order and in the dtype in which the dense form
    does, so named rows are the same bit by bit, and so are the others: W - s * 0 is W. (Exceptions: with an s below 0
    the dense form makes 0.0 of a -0.0 in the others, and NaN of them if s is not finite.) `s` is a number, a value of
    shape () or several of them in a row. What else reads the gradient keeps it dense, but for lengths that are measured
    for clipping: the zeros add nothing. Updates of more than half of a table stay dense: nothing would be saved.
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
            new.now[call.output] = rows  # for the lengths
        elif call in updates:
            back, factors = updates[call]
            rows, places = parts[back]
            for factor in factors:
                # The number comes first or last, as in the dense form: a NaN keeps its bits.
                inputs = [rows if part is _gradient(factor) else new.get(part) for part in factor.inputs]
                rows = new.call(MULTIPLY, inputs, {}, [(rows.shape, rows.dtype)], factor.place).output
            specs = [(call.output.shape, call.output.dtype)]
            made = new.call(SUBTRACT_ROWS, [new.get(call.inputs[0]), rows, places], {}, specs, call.place)
            new.now[call.output] = made.output
        elif call not in dropped:
            new.keep(call)
    return new.done()


def _rows(new: Rewriter, back: Call) -> tuple[Value, Value]:
    """Append what makes rows and places of a gradient."""
    ids = new.get(back.attrs["indices"])
    V, *row = back.output.shape
    count = math.prod(ids.shape)
    specs = [((count, *row), back.output.dtype), ((count,), np.dtype(np.int64))]
    made = new.call(EQUAL_ROWS, [new.get(back.inputs[0])], {"indices": ids, "length": V}, specs, back.place)
    return made.outputs[0], made.outputs[1]


def _gradient(factor: Call) -> Value:
    """Return the operand of a multiplication by a number that is not the number."""
    part: Value = factor.inputs[0] if _is_table(factor.inputs[0], factor.output) else factor.inputs[1]
    return part


def _update(call: Call, uses: dict[Value, list[Call]], returned: set[Value]) -> tuple[Call, list[Call]] | None:
    """Return (the lookup's gradient, the multiplications of it, in their order) if a call subtracts just that."""
    if call.name != "subtract" or not all(_is_table(part, call.output) for part in call.inputs):
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
        if maker.name != "multiply" or others or not _is_scaling(maker):
            return None
        factors.append(maker)
        reader, part = maker, _gradient(maker)
    return None


def _is_table(part: object, like: Value) -> bool:
    return isinstance(part, Value) and (part.shape, part.dtype) == (like.shape, like.dtype)


def _is_scaling(call: Call) -> bool:
    """Return whether a call multiplies an array by one number, in the dtype of the array."""
    out = call.output
    for part, number in (call.inputs, call.inputs[::-1]):
        is_number = number.shape == () if isinstance(number, Value) else type(number) in (int, float)
        if _is_table(part, out) and is_number and out.ndim:
            return True
    return False


def _measures(call: Call) -> bool:
    """Return whether a call measures lengths of gradients, without naming the shape of one in an error."""
    return call.name == _NORMS and not call.attrs["names"]
