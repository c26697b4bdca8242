"""Where workers wait for each other: it follows from what each of them reads and writes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

Span = tuple[int, int, int, bool, int]
"""(memory, first byte, byte after the last, whether it is written, bytes that it lies further at each turn of a loop).

A turn is a step of a loop in the order in which they are done; the first bytes are those of the first turn.
"""
Parts = Sequence[Sequence[Span]]
"""What each worker touches."""


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
    """What each worker has read and written since all waited for each other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.clear()

    def clear(self) -> None:
        """Forget everything: all have waited for each other."""
        self.read: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]
        self.written: list[dict[int, _Ranges]] = [{} for _ in range(self.workers)]

    def must_wait(self, parts: Parts) -> bool:
        """Return whether a worker is about to touch what another has written, or to write what another has read."""
        for worker, spans in enumerate(parts):
            for other in range(self.workers):
                if other == worker:
                    continue
                for base, start, stop, writes, _ in spans:
                    ranges = self.written[other].get(base)
                    if ranges is not None and ranges.meets(start, stop):
                        return True
                    ranges = self.read[other].get(base) if writes else None
                    if ranges is not None and ranges.meets(start, stop):
                        return True
        return False

    def add(self, parts: Parts) -> None:
        """Note what each worker touches now."""
        for worker, spans in enumerate(parts):
            for base, start, stop, writes, _ in spans:
                sets = (self.written if writes else self.read)[worker]
                if base not in sets:
                    sets[base] = _Ranges()
                sets[base].add(start, stop)


def waits_within(calls: Sequence[Parts], turns: int, around: bool = True) -> list[bool]:
    """Return for each call of the body of a loop whether workers wait before it, so that it is right at every turn.

    Of the calls that a call must not overtake only the last one counts: a wait after that one is after all of them. How
    far back it is follows from the addresses, and is the same at every turn.

    Args:
        calls: for each call what each worker touches.
        turns: how often the body is done.
        around: whether workers go on from turn to turn; otherwise all wait for each other between two turns.
    """
    back = _distances(calls, turns, turns - 1 if around else 0)
    waits = [False] * len(calls)
    last = 0  # place of the last wait, counted in calls from the first one of the first turn
    for turn in range(turns if around else 1):
        changed = False
        for number, distance in enumerate(back):
            place = turn * len(calls) + number
            if distance is not None and place - distance >= last and not waits[number]:
                waits[number] = changed = True
            if waits[number]:
                last = place
        if turn > 0 and not changed:  # from here on each turn is like the one before
            far = [number for number, distance in enumerate(back) if distance is not None]
            if any(waits) or not far:
                break
            waits[far[0]], last = True, turn * len(calls) + far[0]
    return waits


def touched_before(calls: Sequence[Parts], waits: list[bool], turns: int) -> Parts:
    """Return what each worker touches in a loop before all have waited for each other in there."""
    return _all(calls[: waits.index(True)]) if any(waits) else _all(calls, turns)


def touched_after(calls: Sequence[Parts], waits: list[bool], turns: int) -> Parts:
    """Return what each worker touches in a loop after all have waited for each other in there for the last time."""
    if not any(waits):
        return _all(calls, turns)
    after = _all(calls[len(waits) - 1 - waits[::-1].index(True) :])
    return [[_at(span, turns - 1) for span in part] for part in after]


def _at(span: Span, turn: int) -> Span:
    memory, start, stop, writes, by = span
    return memory, start + turn * by, stop + turn * by, writes, by


def _all(calls: Sequence[Parts], turns: int = 1) -> Parts:
    """Return what each worker touches in several calls, at one turn or at so many."""
    spans: Iterable[list[Span]] = ([*chain(*parts)] for parts in zip(*calls, strict=True))
    return [[(span[0], *_hull(span, turns), span[3], span[4]) for span in part] for part in spans]


def _hull(span: Span, turns: int) -> tuple[int, int]:
    """Return (first byte, byte after the last) of all turns."""
    _, start, stop, _, by = span
    way = (turns - 1) * by
    return (start + way, stop) if way < 0 else (start, stop + way)


def _distances(calls: Sequence[Parts], turns: int, most: int) -> list[int | None]:
    """Return for each call how many calls before it the last one is that it must not overtake, None if there is none.

    Only calls of up to `most` turns before count.
    """
    by_memory: dict[int, list[tuple[int, int, int, int, Span]]] = {}
    for number, parts in enumerate(calls):
        for worker, spans in enumerate(parts):
            for span in spans:
                by_memory.setdefault(span[0], []).append((*_hull(span, turns), number, worker, span))
    back: list[int | None] = [None] * len(calls)

    def note(before: int, first: Span, after: int, second: Span) -> None:
        turn = _nearest(first, second, int(before >= after), most)
        if turn is not None:
            distance, known = turn * len(calls) + after - before, back[after]
            back[after] = distance if known is None else min(known, distance)

    for places in by_memory.values():
        if any(span[3] for *_, span in places):
            for (number, span), (number2, other) in _meeting(places):
                note(number, span, number2, other)
                note(number2, other, number, span)
    return back


def _meeting(
    places: list[tuple[int, int, int, int, Span]],
) -> Iterator[tuple[tuple[int, Span], tuple[int, Span]]]:
    """Yield pairs (number of a call, what it touches) of different workers that meet at some turn, where one writes."""
    still: list[tuple[int, int, int, int, Span]] = []  # those that reach as far as the one that is looked at
    for place in sorted(places, key=lambda place: place[0]):
        low, _, number, worker, span = place
        still = [other for other in still if other[1] > low]
        for _, _, number2, worker2, other in still:
            if worker != worker2 and (span[3] or other[3]):
                yield (number, span), (number2, other)
        still.append(place)


def _nearest(first: Span, second: Span, least: int, most: int) -> int | None:
    """Return the least number of turns, from `least` to `most`, after which the second touches what the first has.

    Both touch the same bytes at some turn, though it may not be with that distance. If one moves past the other it is
    taken that they meet at any.
    """
    _, a, b, _, by = first
    _, c, d, _, by2 = second
    if by == by2 and by != 0:  # at a distance of n turns: a - n * by < d and c < b - n * by
        if by < 0:
            a, b, c, d, by = -b, -a, -d, -c, -by
        least, most = max(least, (a - d) // by + 1), min(most, (b - c - 1) // by)
    return least if least <= most else None
