"""Cross-entropy losses with the gradient of their logits, which is written over the logits."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import BROADCAST, CONCATENATE, GETITEM
from ..ir.order import sort
from ..replay.kernels import LOSS_AND_GRADIENT
from .common import (
    Operands,
    axes_of,
    before_reshapes,
    independent,
    is_outer,
    product,
    reshaped,
    rewrite,
    rows,
    substitute,
    transposed,
)
from .simplify import remove_dead_code

_PLAIN = (np.dtype(np.float32), np.dtype(np.float64))  # sums of float16 have a wider accumulator, products do not
_LARGE = 1 << 18  # elements of a gradient; above this a pass over it costs more than a copy of x


def fuse_loss(graph: Graph) -> Graph:
    """Compute a loss and the gradient of its logits together, where the graph has both."""
    uses = graph.uses()
    pairs: dict[Call, Call] = {}
    for call in graph.calls:
        if call.name != "cross_entropy":
            continue
        for other in uses.get(call.inputs[0], ()):
            same = other.name == "cross_entropy_back" and other.attrs["targets"] is call.attrs["targets"]
            if same and other.attrs["ignore_label"] == call.attrs["ignore_label"] and _is_constant(other.inputs[1]):
                pairs[call] = other
    if not pairs:
        return graph
    new = Rewriter(graph)
    now: dict[Value, Value] = {}
    dropped = set(pairs.values())
    for call in graph.calls:
        if call in pairs:
            now.update(_both(new, call, pairs[call]))
        elif call not in dropped:
            new.calls.append(call)
    return sort(substitute(new.done(), now))


def _both(new: Rewriter, loss: Call, back: Call) -> dict[Value, Value]:
    """Append one call for a loss and its gradient; return the replacements of both."""
    new.place, logits = loss.place, loss.inputs[0]
    flat = rows(new, logits)
    specs = [((), logits.dtype), (flat.shape, logits.dtype)]
    made = new.call(LOSS_AND_GRADIENT, [flat, back.inputs[1]], loss.attrs, specs)
    return {loss.output: made.outputs[0], back.output: reshaped(new, made.outputs[1], logits.shape)}


def _is_constant(part: object) -> bool:
    return not isinstance(part, Value) or (part.constant is not None and part.ndim == 0)


def sums_in_product(graph: Graph) -> Graph:
    """Add up the rows of a large gradient in a product that also reads it, which saves a pass over memory.

    [x, 1].T @ d is [x.T @ d; sum over the rows of d]: the gradients of a matrix and of its bias.
    """
    while (found := _product_and_sum(graph)) is not None:
        graph = _in_one_product(graph, *found)
    return graph


def _in_one_product(graph: Graph, multiplied: Call, total: Call) -> Graph:
    columns: dict[Value, Value] = {}

    def rule(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
        if call is not multiplied:
            return None
        x1 = _with_ones(new, inputs[0].maker.inputs[0])
        both, H = product(new, transposed(new, x1, (1, 0)), inputs[1]), call.output.shape[0]
        of_matrix = new.call(GETITEM, [both], {"index": (slice(0, H),)}).output
        columns[total.output] = new.call(GETITEM, [both], {"index": (H,)}).output
        return [of_matrix]

    return remove_dead_code(sort(substitute(rewrite(graph, rule), columns)))


def _with_ones(new: Rewriter, x: Value) -> Value:
    """Append x with a column of ones after its last column."""
    one = Value((1, 1), x.dtype, constant=np.ones((1, 1), x.dtype))
    shape = x.shape[0], 1
    ones = Value(shape, x.dtype, constant=np.ones(shape, x.dtype))
    ones.folded = Call(BROADCAST, [one], {"shape": shape}, [(shape, x.dtype)]), 0  # for other lengths
    return new.call(CONCATENATE, [new.get(x), ones], {"axis": 1}).output


def _product_and_sum(graph: Graph) -> tuple[Call, Call] | None:
    """Return a product x.T @ d and the sum over the rows of the same d, which do not depend on each other, or None."""
    sums: dict[Value, Call] = {}
    for call in graph.calls:
        if call.name == "sum" and not call.attrs["keepdims"] and (d := _flat_source(call)) is not None:
            sums[d] = call
    for call in graph.calls:
        total = sums.get(before_reshapes(call.inputs[1])) if sums and is_outer(call) else None
        if total is not None and total.output.shape == call.output.shape[1:] and independent(graph, [call, total]):
            return call, total
    return None


def _flat_source(call: Call) -> Value | None:
    """Return the array, before reshapes, that a call sums over all axes but the last, if it is large; else None."""
    x = call.inputs[0]
    if x.size < _LARGE or x.dtype not in _PLAIN or call.output.dtype != x.dtype:
        return None
    if tuple(sorted(axes_of(call))) != tuple(range(x.ndim - 1)):
        return None
    return before_reshapes(x)
