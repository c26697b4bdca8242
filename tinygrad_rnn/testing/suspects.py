"""What in a graph explains a wrong gradient: a cut that does not hold, or a result that was used as a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..engine.tape import Array, Node, enable_grad
from ..engine.tensor import Tensor
from ..engine.walk import pull_back
from .backward import Found

Recorded: TypeAlias = Sequence[tuple[Node, tuple[Array, ...]]]
"""Every node that was recorded, with the arrays that it computed."""

_FEW = 20  # cuts that are opened one at a time


def is_cut(node: Node) -> bool:
    """Return whether a node is a cut that changes what passes."""
    return node.name == "cut" and node.attrs.get("scale", 1) != 1


def opened_cut(found: Found, recorded: Recorded, leaf: Tensor, expected: Array, actual: Array) -> str:
    """Return which cut, if it were open, would make of the expected gradient the actual one; "" if none would."""
    cuts = [node for node in reversed(found.nodes) if is_cut(node)]
    if not 0 < len(cuts) <= _FEW or leaf.node is None:
        return ""
    computed = {node.id: outputs for node, outputs in recorded}
    near = 1e-8 * max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    for number, node in enumerate(cuts, 1):
        behind = _behind(node, computed)
        with enable_grad():
            arriving = pull_back(found.seeds, [(node, 0)]).get((node, 0))
            if behind is None or arriving is None:
                continue
            kept_back = (1 - node.attrs["scale"]) * arriving
            through: Any = pull_back([(behind, kept_back)], [(leaf.node, 0)]).get((leaf.node, 0))
        if through is None or not through.any():
            continue
        if np.abs(expected + through - actual).max() <= near:
            return f"equals the gradient with cut {number} of {len(cuts)} open (recorded at {node.where()})"
    return ""


def _behind(node: Node, computed: dict[int, tuple[Array, ...]]) -> tuple[Node, int] | None:
    """Return the place behind a cut; a closed cut knows the node, and which of its outputs is seen from the values."""
    if node.edges:
        return node.edges[0]
    past = node.past() if node.past is not None else None
    if past is None:
        return None
    outputs, value = computed.get(past.id, ()), computed[node.id][0].tobytes()
    return (past, next((index for index, output in enumerate(outputs) if output.tobytes() == value), 0))


def used_as_constant(found: Found, recorded: Recorded) -> str:
    """Return which result of the graph enters another operation as a constant, as x.data does; "" if none does."""
    known = {
        (output.shape, output.tobytes()): node
        for node, outputs in reversed(recorded)
        for output in outputs
        if output.any()
    }
    for node in reversed(found.nodes):
        for edge, value in zip(node.edges, node.inputs, strict=True):
            if edge is None and isinstance(value, np.ndarray) and node.name != "where":
                source = known.get((value.shape, value.tobytes()))
                if source is not None and source.id < node.id:
                    return (
                        f"the result of {source.name} (recorded at {source.where()}) enters {node.name} (recorded at "
                        f"{node.where()}) as a constant, so no gradient passes there: use cut(x), not x.data, if that "
                        "is meant"
                    )
    return ""
