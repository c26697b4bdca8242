"""In which layer of a layout an item stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def ranks_of(count: int, arcs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the layer of each item: the length of the longest path that leads to it.

    Raises:
        ValueError: if the arcs run in a circle.

    >>> ranks_of(4, [(0, 1), (1, 2), (0, 2), (2, 3)])
    [0, 1, 2, 3]
    """
    behind: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for tail, head in arcs:
        behind[tail].append(head)
        missing[head] += 1
    ready = [item for item in range(count) if not missing[item]]
    ranks = [0] * count
    done = 0
    while ready:
        item = ready.pop()
        done += 1
        for head in behind[item]:
            ranks[head] = max(ranks[head], ranks[item] + 1)
            missing[head] -= 1
            if not missing[head]:
                ready.append(head)
    if done < count:
        raise ValueError("ranks_of: the arcs run in a circle, so there is no first layer")
    return ranks


def pulled_right(ranks: Sequence[int], arcs: Iterable[tuple[int, int]]) -> list[int]:
    """Return ranks with each item that nothing leads to moved to just before the first that reads it.

    >>> pulled_right([0, 1, 2, 0], [(0, 1), (1, 2), (3, 2)])
    [0, 1, 2, 1]
    """
    new = list(ranks)
    first: dict[int, int] = {}
    fed: set[int] = set()
    for tail, head in arcs:
        first[tail] = min(first.get(tail, ranks[head]), ranks[head])
        fed.add(head)
    for item, rank in first.items():
        if item not in fed:
            new[item] = rank - 1
    return new
