"""What a loss is the sum of: the single numbers that are only added up, scaled or averaged on their way to it."""

from __future__ import annotations

import numpy as np

from ...engine.tape import Node
from .graph import Place
from .web import MOVING, Web

_ADDING = frozenset(("add", "subtract", "negative"))
_SCALING = frozenset(("multiply", "divide"))


def terms_of(web: Web, loss: Place) -> tuple[list[Node], tuple[Place, ...]]:
    """Return the nodes that only add up on the way to a loss, and the places that they add up."""
    added: dict[Node, None] = {}
    terms: dict[Place, None] = {}
    waiting = [loss]
    while waiting:
        place = waiting.pop()
        node = place[0]
        if node in added:
            continue
        if node in web.inputs and _adds_up(web, node):
            added[node] = None
            waiting += [source.place for source in reversed(web.inputs[node]) if source.place is not None]
        elif node.operation is not None:
            terms[place] = None
    ordered = sorted(terms, key=lambda place: (web.graph.number[place[0]], place[1]))
    return (list(added), tuple(ordered)) if ordered else ([], (loss,))


def _adds_up(web: Web, node: Node) -> bool:
    sources = [source.place for source in web.inputs[node] if source.place is not None]
    single = all(_size(node, index) == 1 for index in range(len(node.specs)))
    if not all(_size(*place) == 1 for place in sources):
        stack = sources[0][0] if len(sources) == 1 else node
        return node.name in ("sum", "mean") and single and stack.name == "stack" and _adds_up(web, stack)
    if node.name == "stack":
        return True
    return single and (
        node.name in _ADDING
        or (node.name in _SCALING and len(sources) == 1 and web.inputs[node][0].place is not None)
        or (node.name == "multiply" and len(sources) == 1)
        or (node.name in MOVING | {"sum", "mean"} and len(sources) == 1)
    )


def _size(node: Node, index: int) -> int:
    return int(np.prod(node.specs[index].shape, dtype=int))
