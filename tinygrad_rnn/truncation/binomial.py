"""Which states to keep of a sequence that goes back under a budget: binomial checkpointing.

To go back over n segments with s states, the first of them that before segment 0, move forward to segment m and keep
the state before it; go back over the later n - m segments with the s - 1 others; then over the first m with s:

    t(n, s) = min over m of  m + t(n - m, s - 1) + t(m, s),    t(1, s) = 0,    t(n, 1) = n (n - 1) / 2

is the number of segments run forward besides the n that are recorded. With b(s, r) = (s + r)! / (s! r!), the number of
segments for which no segment is run forward more than r times, the solution is

    t(n, s) = r n - b(s + 1, r - 1),    r the smallest with n <= b(s, r)

and m is best where both parts stay within their r: b(s, r-2) <= m <= b(s, r-1), b(s-1, r-1) <= n - m <= b(s-1, r).
Source: Griewank and Walther 2000, Algorithm 799: revolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import comb


def advances(n: int, states: int) -> int:
    """Return t(n, states), the fewest segments run forward to go back over n, besides recording each of them once.

    >>> [advances(10, states) for states in (1, 2, 3, 10)]
    [45, 20, 15, 9]
    """
    r = _sweeps(n, states)
    return r * n - comb(states + r, states + 1)


def next_state(n: int, states: int) -> int:
    """Return how many segments before the next state to keep, of n >= 2, with `states` including that before them.

    It is n - 1 where this is the only state: the last segment is recorded from there, and its first state not kept.

    >>> next_state(10, 3), next_state(10, 1)
    (4, 9)
    """
    r = _sweeps(n, states)
    return min(comb(states + r - 1, states), n - comb(states + r - 2, states - 1))


def thinned(kept: Sequence[int], end: int, states: int) -> list[int]:
    """Return the states to go on with when a sequence turns out to be longer than planned, at most `states`.

    One after another, that state is dropped without which the pass at `end` has the fewest segments to run forward,
    until no more need be dropped and none is better dropped. The first is never dropped.

    Args:
        kept: the segments whose first states are kept, ascending; the last is the one that comes next.
        end: number of segments before the pass, as far as is known.
        states: the most that may be kept.

    >>> thinned([0, 1, 2, 3], 4, 3)
    [0, 2, 3]
    """
    best = list(kept)
    while len(best) > 1 and end > states:
        borders = [*best, end]
        # the segments that the intervals after each state run forward: all of them, and with one more state to use
        costs = [advances(b - a, states - j) if j < states else 0 for j, (a, b) in enumerate(pairwise(borders))]
        later = [advances(b - a, states - j + 1) for j, (a, b) in enumerate(pairwise(borders))]
        head, tail = [0, *accumulate(costs)], [0, *accumulate(reversed(later))][::-1]
        without = [
            head[j - 1] + advances(borders[j + 1] - borders[j - 1], states - j + 1) + tail[j + 1]
            for j in range(1, len(best))
        ]
        fewest = min(without)
        if len(best) <= states and fewest >= head[-1]:
            break
        del best[1 + without.index(fewest)]
    return best


def _sweeps(n: int, states: int) -> int:
    r = 0
    while comb(states + r, states) < n:
        r += 1
    return r
