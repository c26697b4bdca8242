"""When two derivatives count as equal: one rule, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far a gradient may be from its oracle, along one direction u of one leaf.

    |j - s| <= rtol * (|s|_1 + |j|) + atol * max(Gmax, 1) * |u|_1

    j is the gradient under test times u, s the oracle's slope, |s|_1 the sum of the absolute terms of j, and Gmax the
    largest entry of the gradient over all leaves. The second part is needed where units saturate: there the rule's own
    1 - y * y cancels. Each leaf is judged alone, or a fault in one would be diluted by the others.

    Attributes:
        rtol: relative part.
        atol: part relative to the largest gradient.
        largest: Gmax.
        relative: largest entry of the gradient times the scale of its variable, for variables that are far from 1: a
            variable s * z of scale s has a gradient in z of s times its own, and is judged by that if it is stricter.

    >>> Tolerance(1e-10, 1e-13, largest=2.0).allowed(terms=3.0, slope=1.0, spread=5.0)
    4.01e-10
    """

    rtol: float
    atol: float
    largest: float
    relative: float = 0.0

    def allowed(self, terms: float, slope: float, spread: float, scale: float = 1.0) -> float:
        """Return the largest allowed |j - s|.

        Args:
            terms: |s|_1, the sum of the absolute terms of j.
            slope: |j|.
            spread: |u|_1.
            scale: of the variables that u moves.
        """
        level = max(self.largest, 1.0)
        if scale != 1:
            level = min(level, max(self.relative, 1.0) / scale)
        return self.rtol * (terms + slope) + self.atol * level * spread
