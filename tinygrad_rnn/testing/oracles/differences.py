"""Differences of values in the widest floating point type available, for functions with kinks.

- Four points: (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12h, with an error of h**4.
- One-sided slopes, from five points on one side; at a kink every value between the two is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from .slopes import Phi, Scalar, Slope


def four_point_slope(phi: Phi, h: Scalar) -> float:
    """Return the slope of phi at 0 from its values at -2h, -h, h and 2h; h decides the floating point type.

    >>> round(four_point_slope(lambda t: (2.0 + t) ** 3, 1e-3), 9)
    12.0
    """
    return float((8 * (phi(h) - phi(-h)) - (phi(2 * h) - phi(-2 * h))) / (12 * h))


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

    dtype: DTypeLike  # floating point type that phi computes in
    eps: float  # the rounding error of that type, or a larger one if a part of phi computes in a narrower type
    size: float  # sum of the absolute terms of phi; its rounding error is eps times that

    @property
    def name(self) -> str:
        """The name in the report."""
        return f"4 points, {dtype_name(self.dtype)}"

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi; see `Oracle`.

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
        right, left = (one_sided_slope(phi, self._number(h)) for h in (step, -step))
        return Slope(min(left, right), max(left, right), 8 * self._rounding(step, scale))

    def _four_points(self, phi: Phi, step: float, scale: float) -> Slope:
        value = four_point_slope(phi, self._number(step))
        return Slope(value, value, self._rounding(step, scale))

    def _rounding(self, step: float, scale: float) -> float:
        return 64 * self.eps * max(min(1.0, scale), self.size) / step  # for small numbers even small terms are visible

    def _number(self, step: float) -> Scalar:
        return np.asarray(step, self.dtype)[()]


def dtype_name(dtype: DTypeLike) -> str:
    """Return the name of a floating point type, "longdouble" on every platform."""
    return "longdouble" if np.dtype(dtype) == np.longdouble else np.dtype(dtype).name
