"""Reassociation: sums and products in another order.

Whatever the order of its terms, a sum of floating point numbers is right to rounding of its largest term; but if large
terms cancel, or a product leaves the range of its type halfway, the order decides. So what the user wrote keeps its
order unless more is allowed (fast_math).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.order import sort

Part = Value | int | float | complex


def reassociate(graph: Graph) -> Graph:
    """In chains of sums, and of products, combine first what fewer matrix products have led to.

    (x @ Wx + h @ Wh) + b becomes (x @ Wx + b) + h @ Wh, and (g * o) * (1 - c * c) becomes g * (o * (1 - c * c)): what
    does not wait for the step before can then be computed for all steps at once.
    """
    uses, returned = graph.uses(), set(graph.outputs)
    inner: set[Call] = set()
    chains: dict[Call, list[Part]] = {}
    for call in reversed(graph.calls):
        if call.name not in ("add", "multiply") or call in inner or call.output.dtype.kind not in "fc":
            continue
        leaves, inside = chain(call, uses, returned)
        if len(leaves) > 2 and all(part.dtype == call.output.dtype for part in leaves if isinstance(part, Value)):
            chains[call] = leaves
            inner |= inside
    if not chains:
        return graph
    depth = _depths(graph)
    new = Rewriter(graph)
    for call in graph.calls:
        if call in inner:
            continue
        if call not in chains:
            new.keep(call)
            continue
        new.place = call.place
        leaves = sorted(chains[call], key=lambda part: _when(part, call, depth))
        parts = [new.get(leaf) for leaf in leaves if isinstance(leaf, Value)]
        numbers = [leaf for leaf in leaves if not isinstance(leaf, Value)]
        if numbers:  # put together as numbers, which take the dtype of what they meet
            parts.insert(0, sum(numbers) if call.name == "add" else math.prod(numbers))
        made = parts[0]
        for part in parts[1:]:
            made = new.call(call.operator, [made, part]).output
        new.now[call.output] = made
    return sort(new.done())


def chain(
    root: Call, uses: Mapping[Value, list[Call]], returned: set[Value], all_sums: bool = True
) -> tuple[list[Part], set[Call]]:
    """Return the operands of a chain of equal operations, whose results nobody else reads, and what lies inside.

    Unless `all_sums` are wanted, all operations of the chain add to the same cotangent.
    """
    leaves: list[Part] = []
    inside: set[Call] = set()
    waiting = list(reversed(root.inputs))
    while waiting:
        part = waiting.pop()
        maker = part.maker if isinstance(part, Value) else None
        if (
            maker is not None
            and maker.name == root.name
            and (all_sums or maker.cotangent == root.cotangent)
            and part.dtype == root.output.dtype
            and len(uses[part]) == 1
            and part not in returned
        ):
            inside.add(maker)
            waiting.extend(reversed(maker.inputs))
        else:
            leaves.append(part)
    return leaves, inside


def _when(part: Part, call: Call, depth: Mapping[Value, int]) -> tuple[int, int, int]:
    """Return what orders the operands of a chain: what is known early first.

    First, in a sum, comes what is the same at all steps (0), then what was computed for all steps at once (1), then the
    rest (2): so that every step, the first one too, adds the same terms first.
    """
    if not isinstance(part, Value):
        return 0, 0, 0
    rank, maker = 0, part.maker
    if call.name == "add" and maker is not None:
        rank = 1 if maker.name == "unstack" else 0 if maker.step is None else 2
    return rank, depth.get(part, 0), part.size


def _depths(graph: Graph) -> dict[Value, int]:
    """Return how many products each value waits for, one after another."""
    found: dict[Value, int] = {}
    for call in graph.calls:
        depth = max((found.get(value, 0) for value in call.values()), default=0) + (call.name == "matmul")
        found.update(dict.fromkeys(call.outputs, depth))
    return found
