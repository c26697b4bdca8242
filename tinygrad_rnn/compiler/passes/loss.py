"""Cross-entropy losses with the gradient of their logits, which is written over the logits."""

from __future__ import annotations

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.order import sort
from ..replay.kernels import LOSS_AND_GRADIENT
from .common import reshaped, rows, substitute


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
