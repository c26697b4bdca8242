"""Barriers between workers, placed by what each of them reads and writes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

Span = tuple[int, int, int, bool, int]
"""(memory, first byte, byte after the last, whether it is written, stride in bytes from iteration to iteration).

Iterations are counted in the order of execution; the bytes are those of the first one.
"""
Parts = Sequence[Sequence[Span]]
"""The spans that each worker accesses."""
_Place = tuple[int, int, int, int, Span]
"""(first byte, byte after the last, both over all iterations, number of the call, worker, span)."""


class _Ranges:
    """A set of bytes, as ranges that neither touch nor overlap."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        first, last = bisect_left(self.stops, start), bisect_right(self.starts, stop)
        if first < last:
            start, stop = min(start, self.starts[first]), max(stop, self.stops[last - 1])
        self.starts[first:last] = [start]
        self.stops[first:last] = [stop]

    def meets(self, start: int, stop: int) -> bool:
        at = bisect_right(self.stops, start)
        return at < len(self.starts) and self.starts[at] < stop


class Touched:
    """What each worker has read and written since the last barrier."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.clear()

    def clear(self) -> None:
        """Forget everything, at a barrier."""
        self.read: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]
        self.written: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]

    def must_wait(self, parts: Parts) -> bool:
        """Return whether a worker is about to access what another has written, or to write what another has read."""
        for worker, spans in enumerate(parts):
            for base, start, stop, writes, _ in spans:
                for sets in (self.written, self.read) if writes else (self.written,):
                    for other, ranges in enumerate(sets):
                        if other != worker and base in ranges and ranges[base].meets(start, stop):
                            return True
        return False

    def add(self, parts: Parts) -> None:
        """Add what each worker accesses."""
        for worker, spans in enumerate(parts):
            for base, start, stop, writes, _ in spans:
                sets = (self.written if writes else self.read)[worker]
                if base not in sets:
                    sets[base] = _Ranges()
                sets[base].add(start, stop)


def waits_within(calls: Sequence[Parts], iterations: int, around: bool = True) -> list[bool]:
    """Return for each call of the body of a loop whether there is a barrier before it, at every iteration.

    Of the calls that a call depends on only the last one counts: a barrier after it comes after all of them. How many
    calls back it is follows from the addresses, and is the same at every iteration.

    Args:
        calls: for each call what each worker accesses.
        iterations: their number.
        around: whether workers go on from one iteration to the next without a barrier in between.
    """
    back = _distances(calls, iterations, iterations - 1 if around else 0)
    waits = [False] * len(calls)
    last = 0  # the call with the last barrier before it, counted from the first call of the first iteration
    for iteration in range(iterations if around else 1):
        changed = False
        for number, distance in enumerate(back):
            place = iteration * len(calls) + number
            if distance is not None and place - distance >= last and not waits[number]:
                waits[number] = changed = True
            if waits[number]:
                last = place
        if iteration > 0 and not changed:  # all later iterations are like this one
            far = [number for number, distance in enumerate(back) if distance is not None]
            if any(waits) or not far:
                break
            # A dependency on a call several iterations back has not come up yet: place its barrier now.
            waits[far[0]], last = True, iteration * len(calls) + far[0]
    return waits


def touched_before(calls: Sequence[Parts], waits: list[bool], iterations: int) -> Parts:
    """Return what each worker accesses in a loop before its first barrier."""
    return _all(calls[: waits.index(True)]) if any(waits) else _all(calls, iterations)


def touched_after(calls: Sequence[Parts], waits: list[bool], iterations: int) -> Parts:
    """Return what each worker accesses in a loop after its last barrier."""
    if not any(waits):
        return _all(calls, iterations)
    after = _all(calls[len(waits) - 1 - waits[::-1].index(True) :])
    return [[_at(span, iterations - 1) for span in part] for part in after]


def _at(span: Span, iteration: int) -> Span:
    memory, start, stop, writes, by = span
    return memory, start + iteration * by, stop + iteration * by, writes, by


def _all(calls: Sequence[Parts], iterations: int = 1) -> Parts:
    """Return what each worker accesses in several calls, over a number of iterations."""
    spans: Iterable[list[Span]] = ([*chain(*parts)] for parts in zip(*calls, strict=True))
    return [[(span[0], *_hull(span, iterations), span[3], span[4]) for span in part] for part in spans]


def _hull(span: Span, iterations: int) -> tuple[int, int]:
    """Return (first byte, byte after the last) over all iterations."""
    _, start, stop, _, by = span
    way = (iterations - 1) * by
    return (start + way, stop) if way < 0 else (start, stop + way)


def _distances(calls: Sequence[Parts], iterations: int, most: int) -> list[int | None]:
    """Return for each call its distance, in calls, from the last call that it depends on; None if there is none.

    A call depends on an earlier one if a worker accesses what another one wrote there, or writes what another one read.
    Only calls up to `most` iterations earlier count.
    """
    by_memory: dict[int, list[_Place]] = {}
    for number, parts in enumerate(calls):
        for worker, spans in enumerate(parts):
            for span in spans:
                by_memory.setdefault(span[0], []).append((*_hull(span, iterations), number, worker, span))
    back: list[int | None] = [None] * len(calls)

    def note(before: int, first: Span, after: int, second: Span) -> None:
        iteration = _nearest(first, second, int(before >= after), most)
        if iteration is not None:
            distance, known = iteration * len(calls) + after - before, back[after]
            back[after] = distance if known is None else min(known, distance)

    for places in by_memory.values():
        if any(span[3] for *_, span in places):
            for (number, span), (number2, other) in _meeting(places):
                note(number, span, number2, other)
                note(number2, other, number, span)
    return back


def _meeting(places: list[_Place]) -> Iterator[tuple[tuple[int, Span], tuple[int, Span]]]:
    """Yield pairs (number of a call, span) of two workers that overlap over all iterations, one of them written."""
    still: list[_Place] = []  # of those that start before `low`, those that end after it
    for place in sorted(places, key=lambda place: place[0]):
        low, _, number, worker, span = place
        still = [other for other in still if other[1] > low]
        for _, _, number2, worker2, other in still:
            if worker != worker2 and (span[3] or other[3]):
                yield (number, span), (number2, other)
        still.append(place)


def _nearest(first: Span, second: Span, least: int, most: int) -> int | None:
    """Return the least n, from `least` to `most`, for which the second span overlaps the first n iterations earlier.

    The spans are known to overlap over all iterations. If their strides differ, they are taken to overlap for each n.
    """
    _, a, b, _, by = first
    _, c, d, _, by2 = second
    if by == by2 and by != 0:  # they overlap if a - n * by < d and c < b - n * by
        if by < 0:
            a, b, c, d, by = -b, -a, -d, -c, -by
        least, most = max(least, (a - d) // by + 1), min(most, (b - c - 1) // by)
    return least if least <= most else None
