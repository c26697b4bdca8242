"""Oracles: slopes of a function along a line, without any derivative rule.

An oracle is given a function phi of one number, the distance t gone along a direction, and finds its slope at 0.

- Complex step: phi(ih).imag / h with h = 1e-30. Nothing is subtracted, so nothing cancels: exact to the last bits for a
  function that is complex-analytic. Source: Squire and Trapp 1998, Using complex variables to estimate derivatives.
- Four points: (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12h, with an error of h**4, in the widest floating point
  type there is; for functions with kinks.
- One-sided slopes, from five points on one side; at a kink everything between the two is a right answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

STEP = 1e-30
"""The h of the complex step; far below rounding, far above underflow."""


def step_for(scale: float) -> float:
    """Return h for a function of numbers of this scale: small against them, however small they are.

    >>> step_for(1.0), step_for(1e-24), step_for(1e-300)
    (1e-30, 1e-54, 1e-308)
    """
    return scale * STEP if scale * STEP > 1e-290 else scale * 1e-8  # whose square is still below rounding


def scales(x: NDArray[Any], fine: bool = False) -> NDArray[np.float64]:
    """Return the scale of each number: 1, or a power of 10 of its size where that is far from 1; 1 for 0.

    Args:
        x: the numbers.
        fine: differences, whose steps are much longer than complex ones, tell apart every power of 10 below 1.

    >>> scales(np.array([0.0, 1e-5, 1.0, 1e300, 2e-26])).tolist()
    [1.0, 1.0, 1.0, 1e+300, 1e-36]
    """
    size = np.abs(x).astype(np.float64)
    low, apart = (1.0, 1) if fine else (1e-12, 12)
    ordinary = (size == 0) | ((size >= low) & (size <= 1e12))
    powers = apart * np.floor(np.log10(np.where(ordinary, 1, np.maximum(size, 1e-300))) / apart)
    return np.where(ordinary, 1.0, np.power(10.0, powers))


Phi = Callable[[Any], Any]
"""phi(t): the value of a function at distance t along a line; t is complex, or real in a wide type."""


class Slope(NamedTuple):
    """What an oracle says of a slope.

    Attributes:
        low: smallest right answer.
        high: largest right answer; above `low` at a kink only.
        slack: how far the oracle itself may be off.
    """

    low: float
    high: float
    slack: float = 0.0

    def distance(self, slope: float) -> float:
        """Return how far `slope` is from the nearest right answer; nan counts as infinitely far."""
        if not np.isfinite([slope, self.low, self.high]).all():
            return np.inf
        return max(0.0, self.low - slope, slope - self.high)

    def nearest(self, slope: float) -> float:
        """Return the right answer next to `slope`."""
        return min(max(slope, self.low), self.high)


def four_point_slope(phi: Phi, h: Any) -> float:
    """Return the slope of phi at 0 from its values at -2h, -h, h and 2h; h decides the floating point type.

    >>> round(four_point_slope(lambda t: (2.0 + t) ** 3, 1e-3), 9)
    12.0
    """
    return float((8 * (phi(h) - phi(-h)) - (phi(2 * h) - phi(-2 * h))) / (12 * h))


def one_sided_slope(phi: Phi, h: Any) -> float:
    """Return the slope of phi to the right of 0 (h > 0), or to the left of it (h < 0), from five points on that side.

    >>> one_sided_slope(abs, 0.125), one_sided_slope(abs, -0.125)
    (1.0, -1.0)
    """
    weights = (-25, 48, -36, 16, -3)
    return float(sum(w * phi(k * h) for k, w in enumerate(weights)) / (12 * h))


class OracleError(ArithmeticError):
    """A function whose complex values say nothing about its slope."""


class Oracle(Protocol):
    """What finds slopes.

    Attributes:
        name: for the report.
    """

    @property
    def name(self) -> str:
        """What the report calls it."""

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi at 0, as the right answer nearest to `claimed` if there are several.

        Args:
            phi: function of the distance.
            claimed: slope under test.
            allowed: how far it may be off.
            length: of the direction, in the 2-norm.
            scale: of the numbers that are moved: steps must be small against it.
        """


@dataclass(frozen=True)
class ComplexStep:
    """Slopes by the complex step.

    Attributes:
        level: phi(0); the real part must be that.
        size: sum of the absolute terms of phi(0).
        sides: look from both sides: NumPy compares complex numbers by their real parts, then the imaginary ones, so a
            maximum of complex numbers carries the slope of that side, exactly.
    """

    level: float
    size: float
    sides: bool = False
    name: str = "complex step"

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi; see `Oracle`.

        Raises:
            OracleError: if the real part is another under complex inputs.
        """
        step = step_for(scale)
        found = [self._side(phi, step), self._side(phi, -step)] if self.sides else [self._side(phi, step)]
        return Slope(min(found), max(found))

    def _side(self, phi: Phi, step: float) -> float:
        value = complex(phi(1j * step))
        if not abs(value.real - self.level) <= 1e-12 * max(self.size, abs(self.level)):
            raise OracleError(f"its value is {value.real!r} for complex inputs, and {self.level!r} for real ones")
        return value.imag / step


@dataclass(frozen=True)
class Differences:
    """Slopes from differences, good beside and at a kink.

    Attributes:
        dtype: floating point type that phi computes in.
        eps: its rounding error, or a larger one if a part of phi computes in a narrower type.
        size: sum of the absolute terms of phi; its rounding error is eps times that.
    """

    dtype: DTypeLike
    eps: float
    size: float

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"4 points, {'longdouble' if np.dtype(self.dtype) == np.longdouble else np.dtype(self.dtype).name}"

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi; see `Oracle`.

        A kink that lies within the four points spoils them, so smaller and smaller steps are tried, each with the
        slack that its rounding needs. If none agrees, 0 itself may be a kink: the one-sided slopes say so.
        """
        steps = [scale * self.eps**0.2 / max(1.0, length) * 0.1**k for k in range(4)]
        best = self._four_points(phi, steps[0], scale)
        if best.distance(claimed) <= allowed + best.slack:
            return best
        for step in steps[1:]:
            coarser, best = best, self._four_points(phi, step, scale)
            if abs(best.low - coarser.low) <= allowed + best.slack:
                best = coarser  # no kink lies between the two, or it is 0 itself
                break
            if best.distance(claimed) <= allowed + best.slack:
                return best
        coarse = self._sides(phi, steps[0], scale)
        for step in steps[1:]:
            fine = self._sides(phi, step, scale)
            near = allowed + fine.slack
            if fine.high - fine.low > near and max(abs(fine.low - coarse.low), abs(fine.high - coarse.high)) <= near:
                return coarse
            coarse = fine
        return best

    def _sides(self, phi: Phi, step: float, scale: float) -> Slope:
        right, left = (one_sided_slope(phi, self._number(h)) for h in (step, -step))
        return Slope(min(left, right), max(left, right), 8 * self._rounding(step, scale))

    def _four_points(self, phi: Phi, step: float, scale: float) -> Slope:
        value = four_point_slope(phi, self._number(step))
        return Slope(value, value, self._rounding(step, scale))

    def _rounding(self, step: float, scale: float) -> float:
        return 64 * self.eps * max(min(1.0, scale), self.size) / step  # of small numbers even small terms are seen

    def _number(self, step: float) -> Any:
        return np.asarray(step, self.dtype)[()]
