"""The input and output of an oracle: a function of the distance along a line, and its slope at 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from ...engine.tape import Array

Scalar: TypeAlias = Any
"""One Python or NumPy number, real or complex, of any precision: no type of either library covers its arithmetic."""

Phi: TypeAlias = Callable[[Scalar], Scalar]
"""phi(t): the value of a function at distance t along a line; t is complex, or real in a wide type."""


class Slope(NamedTuple):
    """An oracle's answer: the smallest and the largest right slope, which differ only at a kink."""

    low: float
    high: float
    slack: float = 0.0  # possible error of the oracle itself

    def distance(self, slope: float) -> float:
        """Return how far `slope` is from the nearest right answer; nan counts as infinitely far."""
        if not np.isfinite([slope, self.low, self.high]).all():
            return np.inf
        return max(0.0, self.low - slope, slope - self.high)

    def nearest(self, slope: float) -> float:
        """Return the right answer nearest to `slope`."""
        return min(max(slope, self.low), self.high)


class Oracle(Protocol):
    """A method that finds slopes."""

    @property
    def name(self) -> str:
        """The name in the report."""

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi at 0; if several are right, the one nearest to `claimed`.

        `claimed` is the slope under test, `allowed` how far it may be off, `length` that of the direction in the
        2-norm, and `scale` that of the numbers that are moved: steps must be small against it.
        """


def scales(x: Array, fine: bool = False) -> Array:
    """Return the scale of each number: 1, or a power of 10 of its size where that is far from 1; 1 for 0.

    `fine` is for differences, whose steps are much longer than complex ones: it distinguishes every power of 10 below
    1.

    >>> scales(np.array([0.0, 1e-5, 1.0, 1e300, 2e-26])).tolist()
    [1.0, 1.0, 1.0, 1e+300, 1e-36]
    """
    size = np.abs(x).astype(np.float64)
    low, apart = (1.0, 1) if fine else (1e-12, 12)
    ordinary = (size == 0) | ((size >= low) & (size <= 1e12))
    powers = apart * np.floor(np.log10(np.where(ordinary, 1, np.maximum(size, 1e-300))) / apart)
    return np.where(ordinary, 1.0, np.power(10.0, powers))
