"""Repetition in a sequence of roles: runs in which each role equals the one a period earlier."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Roles = NDArray[np.int64]

_GAPS = 8  # most gaps that are tried for words of one length, the most frequent ones
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Run(NamedTuple):
    """A range roles[start:end] in which roles[n] == roles[n + period] wherever both are inside."""

    start: int
    end: int
    period: int

    @property
    def saved(self) -> int:
        """Number of roles that are saved if one period represents all."""
        return self.end - self.start - self.period


def runs(roles: _Roles) -> list[Run]:
    """Return runs of two periods or more that do not overlap, from left to right; those that save most are preferred.

    >>> runs(np.array([7, 1, 2, 1, 2, 1, 2, 1, 9, 9]))
    [Run(start=1, end=8, period=2), Run(start=8, end=10, period=1)]
    """
    found = {run for period in periods(roles) for run in runs_of(roles, period)}
    return _chosen(sorted(found, key=lambda run: (-run.saved, run.period, run.start)), len(roles))


def periods(roles: _Roles) -> list[int]:
    """Return distances at which words of roles recur: words of one role, of four, of 16, and so on.

    A word as long as the period recurs at distances of whole periods only, however much repeats within it.
    """
    found: set[int] = set()
    words, length = roles.astype(np.uint64), 1
    while len(words) > 1:
        order = np.argsort(words, kind="stable")
        gaps = np.diff(order)[words[order[1:]] == words[order[:-1]]]
        if not len(gaps):
            break
        counts = np.bincount(gaps)
        found.update(int(gap) for gap in np.argsort(-counts, kind="stable")[:_GAPS] if counts[gap])
        for _ in range(2):  # words are hashed; `runs_of` rejects what only a collision suggests
            words = (words[:-length] * _FACTOR) ^ (words[length:] + (words[length:] >> np.uint64(29)))
            length *= 2
    return sorted(found)


def runs_of(roles: _Roles, period: int) -> list[Run]:
    """Return the longest runs with a period, those of two periods or more."""
    same = np.concatenate(([False], roles[:-period] == roles[period:], [False]))
    edges = np.flatnonzero(np.diff(same))
    return [
        Run(int(start), int(end) + period, period)
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if end - start >= period
    ]


def _chosen(found: list[Run], length: int) -> list[Run]:
    """Return the parts of each run that no earlier one covers, from left to right."""
    free = np.ones(length, bool)
    chosen: list[Run] = []
    for run in found:
        if np.count_nonzero(free[run.start : run.end]) < 2 * run.period:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([False], free[run.start : run.end], [False])))) + run.start
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if end - start >= 2 * run.period:
                chosen.append(Run(start, end, run.period))
                free[start:end] = False
    return sorted(chosen)
