"""Positions in a row with least distances between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def separated(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Return the positions nearest to `wanted` with at least `gaps` between neighbours.

    Least squares: minimise sum w_i (x_i - wanted_i)^2 with x_{i+1} - x_i >= gaps_i; by pool adjacent violators.

    Args:
        wanted: positions, in the order that is kept.
        weights: one for each position, above 0.
        gaps: one for each pair of neighbours.

    >>> separated([0.0, 1.0, 10.0], [1.0, 1.0, 1.0], [5.0, 5.0])
    [-2.0, 3.0, 10.0]
    """
    offsets = list(accumulate(gaps, initial=0.0))[: len(wanted)]
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, total, members = want - offset, weight, 1
        while blocks and blocks[-1][0] >= mean:
            other, heavy, many = blocks.pop()
            mean, total, members = (mean * total + other * heavy) / (total + heavy), total + heavy, members + many
        blocks.append((mean, total, members))
    flat = [mean for mean, _, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]
