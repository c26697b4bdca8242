"""The loss of a language model: logits are held once, and turned into their gradient in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Call, Graph, Rewriter, Value
from ..kernels import LOSS_AND_GRADIENT
from ..operators import CONCATENATE, GETITEM, MATMUL, RESHAPE, TRANSPOSE
from .batch import substitute
from .simplify import sort

_LARGE = 1 << 18  # logits; above this a pass over them costs more than a copy of the weights


def fuse_loss(graph: Graph) -> Graph:
    """Compute a loss and the gradient of its logits together, where both are wanted."""
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
    """Append one call for a loss and its gradient; return what stands for both."""
    logits = loss.inputs[0]
    rows, V = math.prod(logits.shape[:-1]), logits.shape[-1]
    flat = new.call(RESHAPE, [logits], {"shape": (rows, V)}, place=loss.place).output
    specs = [((), logits.dtype), (flat.shape, logits.dtype)]
    made = new.call(LOSS_AND_GRADIENT, [flat, back.inputs[1]], loss.attrs, specs, loss.place)
    gradient = new.call(RESHAPE, [made.outputs[1]], {"shape": logits.shape}, place=loss.place).output
    return {loss.output: made.outputs[0], back.output: gradient}


def _is_constant(part: Any) -> bool:
    return not isinstance(part, Value) or (part.constant is not None and part.ndim == 0)


def bias_in_product(graph: Graph) -> Graph:
    """Add a bias to large logits within the product, and sum up its gradient there, by a column of ones.

    [x, 1] @ [W; b] is x @ W + b, and [x, 1].T @ d is [dW; db]: two passes over the logits less.
    """
    uses = graph.uses()
    new = Rewriter(graph)
    wide: dict[Value, tuple[Value, Value]] = {}  # rows -> rows with a column of ones
    affine = {call: _affine(call, uses) for call in graph.calls}
    for call in graph.calls:
        found = affine[call]
        if found is None:
            new.keep(call)
            continue
        product, bias = found
        rows, W = new.get(product.inputs[0]), new.get(product.inputs[1])
        M = rows.shape[0]
        ones = Value((M, 1), rows.dtype, constant=np.ones((M, 1), rows.dtype))
        x1 = new.call(CONCATENATE, [rows, ones], {"axis": 1}, place=call.place).output
        b = new.call(RESHAPE, [new.get(bias)], {"shape": (1, W.shape[1])}, place=call.place).output
        W1 = new.call(CONCATENATE, [W, b], {"axis": 0}, place=call.place).output
        logits = new.call(MATMUL, [x1, W1], place=call.place).output
        new.now[call.output] = new.call(RESHAPE, [logits], {"shape": call.output.shape}, place=call.place).output
        wide[product.inputs[0]] = x1, rows
    if not wide:
        return graph
    return _sums_in_product(new.done(), {rows: x1 for x1, rows in wide.values()})


def _affine(call: Call, uses: dict[Value, list[Call]]) -> tuple[Call, Value] | None:
    """Return (product, bias) if a call adds a bias to a large product that nobody else reads."""
    if call.name != "add" or call.output.size < _LARGE or not all(isinstance(part, Value) for part in call.inputs):
        return None
    for part, bias in (call.inputs, call.inputs[::-1]):
        if bias.shape != call.output.shape[-1:] or part.shape != call.output.shape:
            continue
        maker, value = part.maker, part
        if maker is not None and maker.name == "reshape" and len(uses[value]) == 1:
            value = maker.inputs[0]
            maker = value.maker
        if maker is not None and maker.name == "matmul" and value.ndim == 2 and len(uses[value]) == 1:
            return maker, bias
    return None


def _sums_in_product(graph: Graph, wide: dict[Value, Value]) -> Graph:
    """Get the sum over the rows of d from [x, 1].T @ d."""
    sums: dict[Value, Call] = {}
    for call in graph.calls:
        if call.name == "sum" and not call.attrs["keepdims"]:
            d = _flat_source(call)
            if d is not None:
                sums[d] = call
    new = Rewriter(graph)
    done: dict[Value, Value] = {}
    for call in graph.calls:
        left = call.inputs[0].maker if call.name == "matmul" and isinstance(call.inputs[0], Value) else None
        if left is not None and left.name == "transpose" and left.inputs[0] in wide and call.inputs[1].ndim == 2:
            x1, d = new.get(wide[left.inputs[0]]), call.inputs[1]
            source = _root(d)
            turned = new.call(TRANSPOSE, [x1], {"axes": (1, 0)}, place=call.place).output
            both = new.call(MATMUL, [turned, new.get(d)], place=call.place).output
            H = call.output.shape[0]
            new.now[call.output] = new.call(GETITEM, [both], {"index": (slice(0, H),)}, place=call.place).output
            done[source] = new.call(GETITEM, [both], {"index": (H,)}, place=call.place).output
        else:
            new.keep(call)
    found = new.done()
    now = {new.get(call.output): done[d] for d, call in sums.items() if d in done}
    return sort(substitute(found, now)) if now else found


def _root(value: Value) -> Value:
    while value.maker is not None and value.maker.name == "reshape":
        value = value.maker.inputs[0]
    return value


def _flat_source(call: Call) -> Value | None:
    """Return what a call sums over all axes but the last, before reshapes; else None."""
    x = call.inputs[0]
    axis = call.attrs["axis"]
    axes = (axis,) if isinstance(axis, int) else axis
    if axes is None or tuple(sorted(a % x.ndim for a in axes)) != tuple(range(x.ndim - 1)):
        return None
    return _root(x)
