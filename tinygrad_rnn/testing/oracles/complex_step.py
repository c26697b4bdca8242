"""The complex step: phi(ih).imag / h with h = 1e-30.

Nothing is subtracted, so nothing cancels: exact to the last bits for a function that is complex-analytic. Source:
Squire and Trapp 1998, Using complex variables to estimate derivatives of real functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from .slopes import Phi, Slope

STEP = 1e-30
"""The h of the complex step; far below rounding, far above underflow."""


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
        """Return the slope of phi; see `Oracle`.

        Raises:
            OracleError: if complex inputs change the real part.
        """
        step = step_for(scale)
        found = [self._side(phi, step), self._side(phi, -step)] if self.sides else [self._side(phi, step)]
        return Slope(min(found), max(found))

    def _side(self, phi: Phi, step: float) -> float:
        value = complex(phi(1j * step))
        if not abs(value.real - self.value) <= 1e-12 * max(self.size, abs(self.value)):
            raise OracleError(f"its value is {value.real!r} for complex inputs, and {self.value!r} for real ones")
        return value.imag / step


def step_for(scale: float) -> float:
    """Return h for a function of numbers of this scale: small relative to them, however small they are.

    >>> step_for(1.0), step_for(1e-24), step_for(1e-300)
    (1e-30, 1e-54, 1e-308)
    """
    return scale * STEP if scale * STEP > 1e-290 else scale * 1e-8  # whose square is still below rounding
