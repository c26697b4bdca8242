"""Where buffers lie in the arena: two of them may have the same bytes if their lives do not overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.tape import Array


def offsets(sizes: Sequence[int], born: Sequence[int], dies: Sequence[int]) -> tuple[list[int], int]:
    """Return where each buffer starts, and the size of the arena.

    The largest buffer is placed first (of equal ones the one that lives longest), each at the lowest place that is
    free for its whole life. What lives shortly so comes to lie in the gaps below, on bytes that were used just before.

    Args:
        sizes: of the buffers, in bytes, above 0.
        born: number of the first instruction that uses each.
        dies: number of the last one; the buffer is not free there yet.

    Returns:
        (offsets, bytes of the arena).

    >>> offsets([64, 128, 64], born=[0, 1, 2], dies=[1, 2, 3])
    ([128, 0, 128], 192)
    """
    size, first, last = (np.asarray(part, np.intp) for part in (sizes, born, dies))
    order = np.lexsort((first - last, -size))
    found = np.zeros(len(size), np.intp)
    placed = np.empty((4, len(size)), np.intp)  # start, end, first, last of those that have a place, by start
    for count, number in enumerate(order):
        start, end, since, until = placed[:, :count]
        meets = (since <= last[number]) & (until >= first[number])
        at = found[number] = _lowest(start[meets], end[meets], size[number])
        place = int(start.searchsorted(at))
        placed[:, place + 1 : count + 1] = placed[:, place:count]
        placed[:, place] = at, at + size[number], first[number], last[number]
    return found.tolist(), int(placed[1].max(initial=0))


def _lowest(start: Array, end: Array, size: int) -> int:
    """Return the lowest offset at which `size` bytes are free, given what is taken, in the order of its start."""
    below = np.zeros(len(start) + 1, np.intp)
    np.maximum.accumulate(end, out=below[1:])  # what was placed in a gap ends before its neighbour does
    fits = np.flatnonzero(start - below[:-1] >= size)
    return int(below[fits[0]] if len(fits) else below[-1])
