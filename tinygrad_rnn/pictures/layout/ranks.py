"""The layer of each item of a layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def ranks_of(count: int, arcs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the layer of each item: the length of the longest path that leads to it.

    Raises:
        ValueError: if the arcs run in a cycle.

    >>> ranks_of(4, [(0, 1), (1, 2), (0, 2), (2, 3)])
    [0, 1, 2, 3]
    """
    heads: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for tail, head in arcs:
        heads[tail].append(head)
        missing[head] += 1
    ready = [item for item in range(count) if not missing[item]]
    ranks = [0] * count
    done = 0
    while ready:
        item = ready.pop()
        done += 1
        for head in heads[item]:
            ranks[head] = max(ranks[head], ranks[item] + 1)
            missing[head] -= 1
            if not missing[head]:
                ready.append(head)
    if done < count:
        raise ValueError("ranks_of: the arcs run in a cycle, so there is no first layer")
    return ranks


def pulled_right(ranks: Sequence[int], arcs: Iterable[tuple[int, int]]) -> list[int]:
    """Return ranks with each item without arcs into it moved to just before its first reader.

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


def gathered(count: int, arcs: Sequence[tuple[int, int]]) -> list[int]:
    """Return ranks in which each item comes just before its first reader; one without readers, just after its sources.

    The items of the longest path keep their layers, and the others move towards them, so that lines are short.

    Raises:
        ValueError: if the arcs run in a cycle.

    >>> gathered(7, [(0, 1), (1, 2), (2, 3), (4, 5), (5, 3), (1, 6)])
    [0, 1, 2, 3, 1, 2, 2]
    """
    early = ranks_of(count, arcs)
    order = sorted(range(count), key=early.__getitem__)
    heads: list[list[int]] = [[] for _ in range(count)]
    tails: list[list[int]] = [[] for _ in range(count)]
    for tail, head in arcs:
        heads[tail].append(head)
        tails[head].append(tail)
    last = max(early, default=0)
    ranks: dict[int, int] = {item: last for item in range(count) if early[item] == last}
    for item in reversed(order):
        placed = [ranks[head] for head in heads[item] if head in ranks]
        if placed and item not in ranks:
            ranks[item] = min(placed) - 1
    loose = [item for item in order if item not in ranks]
    for item in loose:
        if tails[item]:
            ranks[item] = max(ranks[tail] if tail in ranks else early[tail] for tail in tails[item]) + 1
    for item in reversed(loose):
        if not tails[item]:
            ranks[item] = min((ranks[head] for head in heads[item]), default=1) - 1
    low = min(ranks.values(), default=0)
    return [ranks[item] - low for item in range(count)]
