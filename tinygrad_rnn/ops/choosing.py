"""Functions that choose between arrays element by element, derived from `where`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.operands import as_value
from ..engine.signatures import binary, joining, unary
from ..engine.tensor import Operand, Tensor, Value
from ..errors import ShapeError
from .elementwise import absolute, maximum, minimum, promoted, where


@unary(np.fabs)
def fabs(x: Operand) -> Value:
    """Return the absolute values of real numbers, floating point."""
    return absolute(np.multiply(x, 1.0))


@binary(np.fmax)
def fmax(a: Operand, b: Operand) -> Value:
    """Return the larger of a and b, and the other where one is NaN."""
    return where(np.isnan(a), b, where(np.isnan(b), a, maximum(a, b)))


@binary(np.fmin)
def fmin(a: Operand, b: Operand) -> Value:
    """Return the smaller of a and b, and the other where one is NaN."""
    return where(np.isnan(a), b, where(np.isnan(b), a, minimum(a, b)))


@binary(np.copysign)
def copysign(a: Operand, b: Operand) -> Value:
    """Return |a| with the sign of b, which has no gradient."""
    a, b = promoted(np.copysign, a, b)
    magnitude = absolute(np.multiply(a, 1.0))
    return where(np.signbit(b), -magnitude, magnitude)


@binary(np.heaviside)
def heaviside(x: Operand, h: Operand) -> Value:
    """Return 0 for x < 0, 1 for x > 0 and h at 0; x has the gradient 0."""
    x, h = promoted(np.heaviside, x, h)
    flat = np.multiply(np.sign(x), 0.5) + 0.5
    return where(np.equal(x, 0), h, flat)


@unary(np.nan_to_num)
def nan_to_num(
    x: Operand, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """Return x with numbers in place of NaN and infinities (None: the largest of the dtype), which get no gradient."""
    x = as_value(x)
    dtype = np.result_type(x)
    if dtype.kind != "f":
        return x
    most = float(np.finfo(dtype).max)
    x = where(np.isnan(x), nan, x)
    x = where(np.equal(x, np.inf), most if posinf is None else posinf, x)
    return where(np.equal(x, -np.inf), -most if neginf is None else neginf, x)


@joining(np.select)
def select(condlist: Sequence[Operand], choicelist: Sequence[Operand], default: Operand = 0) -> Value:
    """Return the elements of the first choice whose condition holds, and `default` where none does."""
    if len(condlist) != len(choicelist):
        raise ShapeError(f"select: expected as many conditions as choices, got {len(condlist)} and {len(choicelist)}")
    kinds = [part.dtype if isinstance(part, Tensor | np.ndarray | np.generic) else part for part in choicelist]
    is_number = isinstance(default, int | float | complex)
    made = np.asarray(default, np.result_type(default, *kinds)) if is_number else default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        made = where(condition, choice, made)
    return as_value(made)
