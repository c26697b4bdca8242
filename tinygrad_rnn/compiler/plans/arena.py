"""Allocation in the arena: two buffers may share bytes if their lifetimes do not overlap."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

from .instructions import Buffer

_ALIGNMENT = 64  # bytes; a cache line


def offsets(sizes: Sequence[int], born: Sequence[int], dies: Sequence[int]) -> tuple[list[int], int]:
    """Return where each buffer starts, and the size of the arena.

    The largest buffer is placed first (of equal ones the one that lives longest), each at the lowest offset that is
    free for its whole lifetime. Short-lived buffers thus fill the gaps below, on bytes that were used just before.

    Args:
        sizes: of the buffers, in bytes, above 0.
        born: number of the first instruction that uses each.
        dies: number of the last one, during which the buffer is still in use.

    Returns:
        (offsets, bytes of the arena).

    >>> offsets([64, 128, 64], born=[0, 1, 2], dies=[1, 2, 3])
    ([128, 0, 128], 192)
    """
    order = sorted(range(len(sizes)), key=lambda number: (-sizes[number], born[number] - dies[number]))
    found = [0] * len(sizes)
    placed: list[tuple[int, int, int, int]] = []  # start, end, born, dies of the placed ones, by start
    for number in order:
        size, first, last = sizes[number], born[number], dies[number]
        at = found[number] = _lowest(placed, size, first, last)
        insort(placed, (at, at + size, first, last))
    return found, max((end for _, end, _, _ in placed), default=0)


def _lowest(placed: Sequence[tuple[int, int, int, int]], size: int, first: int, last: int) -> int:
    """Return the lowest offset at which `size` bytes are free from `first` to `last`."""
    free = 0
    for start, end, since, until in placed:
        if since <= last and until >= first:
            if start - free >= size:
                break
            if end > free:  # what was placed in a gap ends before its neighbour does
                free = end
    return free


def place_buffers(buffers: Iterable[Buffer]) -> int:
    """Set the offsets of the buffers that lie in the arena, by their lifetimes; return the size of the arena."""
    lying = [buffer for buffer in buffers if buffer.kind == "arena" and buffer.dies >= 0]
    sizes = [-(-max(1, buffer.nbytes) // _ALIGNMENT) * _ALIGNMENT for buffer in lying]
    where, size = offsets(sizes, [buffer.born for buffer in lying], [buffer.dies for buffer in lying])
    for buffer, offset in zip(lying, where, strict=True):
        buffer.offset = offset
    return size
