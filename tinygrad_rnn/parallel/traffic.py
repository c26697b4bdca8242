"""The bytes that plans read and write, by how near they are: in a cache of each size, or in memory.

A cache keeps what was used last: what is used again before as many other bytes as it holds is still there.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np

SIZES = (1 << 18, 1 << 21, 1 << 23)
"""Bytes that each cache of the model holds for a process, the nearest first."""

_PAGE = 1 << 12  # bytes that a cache takes in at once
_Page: TypeAlias = tuple[Hashable, int]


class _Buffer(Protocol):
    kind: str
    offset: int


class _Slot(Protocol):
    """Where an array lies; as `compiler.plans.instructions.Slot`."""

    @property
    def buffer(self) -> _Buffer: ...

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[np.generic]
    step_stride: int

    def distinct_bytes(self) -> int: ...


class Planned(Protocol):
    """A plan: its instructions, and loops of them with `steps`, `reverse` and `instructions`."""

    @property
    def instructions(self) -> Sequence[object]:
        """Its instructions and loops, in their order."""


def traffic(plans: Iterable[Planned]) -> list[tuple[float, ...]]:
    """Return the bytes of a replay of each plan, one plan after another and all of them again and again.

    Returns:
        For each plan the bytes that lie in the caches of `SIZES`, each in the nearest that has them, and in memory.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.compile(lambda x: np.tanh(x) * x)
    >>> _ = step(np.ones((1 << 14, 1 << 3), np.float32))  # 512 KB: too much for the nearest cache alone
    >>> traffic([step.plan])
    [(0.0, 2621440.0, 0.0, 0.0)]
    """
    plans, caches = [*plans], [OrderedDict[_Page, None]() for _ in SIZES]
    for _ in range(2):  # the second time there is in the caches what the first has left
        found = [[0.0] * (len(SIZES) + 1) for _ in plans]
        for plan, levels in zip(plans, found, strict=True):
            for slot, t in _accesses(plan):
                pages = _pages(slot, t)
                for page in pages:
                    levels[_nearest(caches, page)] += slot.distinct_bytes() / len(pages)
    return [tuple(levels) for levels in found]


def _nearest(caches: list[OrderedDict[_Page, None]], page: _Page) -> int:
    """Return the number of the nearest cache that has a page, which all have afterwards; their number if none has."""
    at = len(caches)
    for number, (cache, size) in enumerate(zip(caches, SIZES, strict=True)):
        if page in cache:
            cache.move_to_end(page)
            at = min(at, number)
        else:
            cache[page] = None
            if len(cache) > size // _PAGE:
                cache.popitem(last=False)
    return at


def _accesses(plan: Planned) -> Iterator[tuple[_Slot, int]]:
    """Yield what the instructions read and write in their order, each with the step of its loop."""
    for part in plan.instructions:
        steps, instructions = range(getattr(part, "steps", 1)), getattr(part, "instructions", [part])
        for t in reversed(steps) if getattr(part, "reverse", False) else steps:
            for instruction in instructions:
                yield from ((slot, t) for slot in instruction.slots() if 0 not in slot.shape)


def _pages(slot: _Slot, t: int) -> list[_Page]:
    """Return the pages that a slot touches at a step; values in the arena share them, one after another."""
    buffer = slot.buffer
    in_arena = buffer.kind == "arena"
    place: Hashable = "arena" if in_arena else id(buffer)
    start = slot.offset + t * slot.step_stride + in_arena * buffer.offset
    parts = _parts(slot.shape, slot.strides, slot.dtype.itemsize)
    numbers = (range((start + low) // _PAGE, (start + high - 1) // _PAGE + 1) for low, high in parts)
    return [(place, number) for number in itertools.chain.from_iterable(numbers)]


@lru_cache(maxsize=4096)
def _parts(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> list[tuple[int, int]]:
    """Return the first byte, and that after the last, of the parts of a layout that lie in one piece, or nearly."""
    axes = sorted((abs(step), length, step) for length, step in zip(shape, strides, strict=True) if length > 1 and step)
    size, low, inner = itemsize, 0, 0
    while inner < len(axes) and axes[inner][0] <= 2 * size:
        step, length, signed = axes[inner]
        size, low, inner = size + step * (length - 1), low + min(0, signed * (length - 1)), inner + 1
    outer = (range(0, length * step, step) for _, length, step in axes[inner:])
    return [(sum(starts) + low, sum(starts) + low + size) for starts in itertools.product(*outer)]
