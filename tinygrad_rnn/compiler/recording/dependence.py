"""What depends on what, over all steps of a loop: which carried values have a gradient, and which get a cotangent.

Both go round the loop: a value that is carried into a step depends on what the step before computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...engine.tape import Node
from ...engine.walk import ancestors
from .frames import Place


def idle_nodes(
    results: Sequence[Place | None],
    inner: Sequence[Place | None],
    given: Sequence[Place | None],
    leaves: set[Node],
    steps: int,
) -> set[Node]:
    """Return the nodes of a body that depend on nothing with a gradient, at no step.

    Args:
        results: places of what the body returns, carried values first.
        inner: places of the carried values before a step.
        given: of the carried values before the first step, outside of the loop.
        leaves: nodes of the body that stand for something with a gradient outside.
        steps: T; what is carried goes round no more often.
    """
    order = ancestors(place[0] for place in (*inner, *results) if place is not None)[::-1]
    busy = set(leaves)
    busy.update(place[0] for place, start in zip(inner, given, strict=True) if place is not None and start is not None)
    for _ in range(steps):
        for node in order:
            before = [edge[0] in busy for edge in node.edges if edge is not None]
            # What is cut off from its past has no edge, and is a place of its own.
            if any(before) if before else node.operation is not None:
                busy.add(node)
        pairs = zip(inner, results, strict=False)
        more = {place[0] for place, after in pairs if place is not None and after is not None and after[0] in busy}
        if more <= busy:
            break
        busy |= more
    return set(order) - busy


def with_cotangents(results: Sequence[Place | None], inner: Sequence[Place | None], seeds: Iterable[int]) -> list[int]:
    """Return the numbers of the carried values that get a cotangent, at any step.

    Args:
        results: places of what the body returns, carried values first.
        inner: places of the carried values before a step.
        seeds: numbers of the results that get one from outside of the loop.
    """
    known = set(seeds)
    found = [number for number, place in enumerate(inner) if number in known and place is not None]
    while True:
        starts = [place[0] for number in known.union(found) if (place := results[number]) is not None]
        reached = set(ancestors(starts))
        more = [
            number
            for number, place in enumerate(inner)
            if number in found or (place is not None and place[0] in reached)
        ]
        if more == found:
            return found
        found = more
