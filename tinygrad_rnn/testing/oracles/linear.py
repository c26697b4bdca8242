"""The slope of a function that is known to be linear: its value at distance 1."""

from __future__ import annotations

from dataclasses import dataclass

from .slopes import Phi, Slope


@dataclass(frozen=True)
class Linear:
    """Slopes of linear functions of one number.

    >>> Linear("automatic gradient").slope(lambda t: 3.0 * t, 0.0, 0.0, 1.0)
    Slope(low=3.0, high=3.0, slack=0.0)
    """

    name: str

    def slope(self, phi: Phi, claimed: float, allowed: float, length: float, scale: float = 1.0) -> Slope:
        """Return the slope of phi; see `Oracle`."""
        slope = float(phi(1.0))
        return Slope(slope, slope)
