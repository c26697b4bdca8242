"""Dependence over all steps of a loop: which carried values have a gradient, and which receive a cotangent.

Both are fixed points: a value that is carried into a step depends on what the step before computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...engine.tape import Edge, Node
from ...engine.walk import ancestors


def idle_nodes(
    results: Sequence[Edge | None],
    inner: Sequence[Edge | None],
    given: Sequence[Edge | None],
    leaves: set[Node],
    steps: int,
) -> set[Node]:
    """Return the nodes of a body that depend on nothing with a gradient, at any step.

    Args:
        results: edges of what the body returns, carried values first.
        inner: edges of the carried values before a step.
        given: edges of the carried values before the first step, outside of the loop.
        leaves: leaves of the body that represent something with a gradient outside.
        steps: T, the most iterations that the fixed point takes.
    """
    order = ancestors(edge[0] for edge in (*inner, *results) if edge is not None)[::-1]
    busy = set(leaves)
    busy.update(edge[0] for edge, start in zip(inner, given, strict=True) if edge is not None and start is not None)
    for _ in range(steps):
        for node in order:
            before = [edge[0] in busy for edge in node.edges if edge is not None]
            # The result of a cut has no edges, but a gradient may be taken at it.
            if any(before) if before else node.operation is not None:
                busy.add(node)
        pairs = zip(inner, results, strict=False)
        more = {edge[0] for edge, after in pairs if edge is not None and after is not None and after[0] in busy}
        if more <= busy:
            break
        busy |= more
    return set(order) - busy


def with_cotangents(results: Sequence[Edge | None], inner: Sequence[Edge | None], seeds: Iterable[int]) -> list[int]:
    """Return the places of the carried values that receive a cotangent, at any step.

    Args:
        results: edges of what the body returns, carried values first.
        inner: edges of the carried values before a step.
        seeds: places of the results that receive one from outside of the loop.
    """
    known = set(seeds)
    found = [number for number, edge in enumerate(inner) if number in known and edge is not None]
    while True:
        starts = [edge[0] for number in known.union(found) if (edge := results[number]) is not None]
        reached = set(ancestors(starts))
        more = [
            number for number, edge in enumerate(inner) if number in found or (edge is not None and edge[0] in reached)
        ]
        if more == found:
            return found
        found = more
