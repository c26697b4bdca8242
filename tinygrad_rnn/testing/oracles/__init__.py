"""Oracles: slopes of a function of the distance along a line, computed without derivative rules.

- The complex step: phi(ih).imag / h with h = 1e-30. Nothing is subtracted, so nothing cancels: exact to the last bits
  for a function that is complex-analytic (Squire and Trapp 1998, Using complex variables to estimate derivatives of
  real functions).
- Differences in the widest floating point type available, for functions with kinks: from four points, with an error of
  h**4; at a kink from five points on each side, and every value between the two slopes is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ...engine.tape import Array

STEP = 1e-30
"""The h of the complex step; far below rounding, far above underflow."""

Scalar: TypeAlias = Any
"""One Python or NumPy number, real or complex, of any precision: no type of either library covers its arithmetic."""

Phi: TypeAlias = Callable[[Scalar], Scalar]
"""phi(t): the value of a function at distance t along a line; t is complex, or real in a wide type."""


Wide: TypeAlias = type[np.longdouble] | type[np.float64]
"""A type that differences can be computed in."""


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


def scales(x: Array, fine: bool = False) -> Array:
    """Return the scale of each number: a power of 10 near its size where that is far from 1; otherwise, and for 0, 1.

    `fine` is for differences, whose steps are much longer than complex ones: it distinguishes all powers of 10 below 1.

    >>> scales(np.array([0.0, 1e-5, 1.0, 1e300, 2e-26])).tolist()
    [1.0, 1.0, 1.0, 1e+300, 1e-36]
    """
    size = np.abs(x).astype(np.float64)
    low, apart = (1.0, 1) if fine else (1e-12, 12)
    ordinary = (size == 0) | ((size >= low) & (size <= 1e12))
    if ordinary.all():
        return np.ones(size.shape)
    powers = apart * np.floor(np.log10(np.where(ordinary, 1, np.maximum(size, 1e-300))) / apart)
    return np.where(ordinary, 1.0, np.power(10.0, powers))


class OracleError(ArithmeticError):
    """Raised for a function whose complex values do not give its slope."""


@dataclass(frozen=True)
class ComplexStep:
    """Slopes by the complex step.

    From both sides if `sides`: NumPy compares complex numbers by their real parts, then the imaginary ones, so a
    maximum of complex numbers carries the slope of that side, exactly.
    """

    value: float  # phi(0), which the real part must equal
    size: float  # sum of the absolute terms of phi(0)
    sides: bool = False
    name: str = "complex step"

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi at 0, as `Differences.slope` does.

        Raises:
            OracleError: if complex inputs change the real part.
        """
        # A step that is small for numbers of this scale, with a square below their rounding.
        step = scale * (STEP if scale * STEP > 1e-290 else 1e-8)
        found = [self._side(phi, step), self._side(phi, -step)] if self.sides else [self._side(phi, step)]
        return Slope(min(found), max(found))

    def _side(self, phi: Phi, step: float) -> float:
        value = complex(phi(1j * step))
        if not abs(value.real - self.value) <= 1e-12 * max(self.size, abs(self.value)):
            raise OracleError(f"its value is {value.real!r} for complex inputs, and {self.value!r} for real ones")
        return value.imag / step


def four_point_slope(phi: Phi, h: Scalar) -> Scalar:
    """Return (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12h; h decides the floating point type.

    >>> round(four_point_slope(lambda t: (2.0 + t) ** 3, 1e-3), 9)
    12.0
    """
    return (8 * (phi(h) - phi(-h)) - (phi(2 * h) - phi(-2 * h))) / (12 * h)


def one_sided_slope(phi: Phi, h: Scalar) -> float:
    """Return the slope of phi to the right of 0 (h > 0), or to the left of it (h < 0), from five points on that side.

    >>> one_sided_slope(abs, 0.125), one_sided_slope(abs, -0.125)
    (1.0, -1.0)
    """
    weights = (-25, 48, -36, 16, -3)
    return float(sum(w * phi(k * h) for k, w in enumerate(weights)) / (12 * h))


@dataclass(frozen=True)
class Differences:
    """Slopes from differences, valid near and at a kink."""

    dtype: Wide  # the type that phi computes in
    eps: float  # the rounding error of that type, or a larger one if a part of phi computes in a narrower type
    size: float  # sum of the absolute terms of phi; its rounding error is eps times that

    @property
    def name(self) -> str:
        """The name in the report."""
        return f"4 points, {self.dtype.__name__}"

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi at 0; if several are right, the one nearest to `claimed`.

        `claimed` is the slope under test, `allowed` how far it may be off, `length` that of the direction in the
        2-norm, and `scale` that of the numbers that are moved: steps must be small against it.

        A kink within the four points spoils them, so smaller and smaller steps are tried, each with the slack that its
        rounding needs. If none agrees, 0 itself may be a kink, which the one-sided slopes show.
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
        right, left = (one_sided_slope(phi, self.dtype(h)) for h in (step, -step))
        return Slope(min(left, right), max(left, right), 8 * self._rounding(step, scale))

    def _four_points(self, phi: Phi, step: float, scale: float) -> Slope:
        value = float(four_point_slope(phi, self.dtype(step)))
        return Slope(value, value, self._rounding(step, scale))

    def _rounding(self, step: float, scale: float) -> float:
        return 64 * self.eps * max(min(1.0, scale), self.size) / step  # for small numbers even small terms are visible


def rounding_error(dtypes: Iterable[DTypeLike]) -> float:
    """Return the largest eps of the real floating point types among some types; 0 if there are none.

    >>> rounding_error([np.int64, np.float32, np.float64])
    1.1920928955078125e-07
    """
    return max((float(np.finfo(dtype).eps) for dtype in dtypes if np.dtype(dtype).kind == "f"), default=0.0)
