"""Where workers wait for each other: it follows from what each of them reads and writes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

Span = tuple[int, int, int, bool]
"""(memory, first byte, byte behind the last, whether it is written)."""


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

    def must_wait(self, parts: Sequence[Sequence[Span]]) -> bool:
        """Return whether a worker is about to touch what another has written, or to write what another has read."""
        for worker, spans in enumerate(parts):
            for other in range(self.workers):
                if other == worker:
                    continue
                for base, start, stop, writes in spans:
                    ranges = self.written[other].get(base)
                    if ranges is not None and ranges.meets(start, stop):
                        return True
                    ranges = self.read[other].get(base) if writes else None
                    if ranges is not None and ranges.meets(start, stop):
                        return True
        return False

    def add(self, parts: Sequence[Sequence[Span]]) -> None:
        """Note what each worker touches now."""
        for worker, spans in enumerate(parts):
            for base, start, stop, writes in spans:
                sets = self.written if writes else self.read
                sets[worker].setdefault(base, _Ranges()).add(start, stop)
