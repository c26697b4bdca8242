"""Piecewise constant functions, and remainders.

Rounding is constant between the places where it jumps, so the derivative is 0: it is recorded, so that code runs with
or without a gradient, and the gradient that comes back is 0, as exact as any other. Where something should be learned
through a rounding, a straight-through estimate is `x + tr.cut(np.round(x) - x)`. Remainders rise with slope 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.primitive import primitive
from ..engine.table import Operand, implements
from ..engine.tape import Array
from ..errors import DTypeError


def _flat(g: Any) -> Any:
    """Return the cotangent that a constant sends back: 0, even if g is not finite."""
    return np.where(False, g, 0)


def _need_real(name: str, *operands: Any) -> None:
    for operand in operands:
        if np.iscomplexobj(operand):
            raise DTypeError(f"{name}: expected real numbers, got dtype {operand.dtype} of shape {np.shape(operand)}")


@primitive(np.floor, analytic=False)
def floor(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the largest integer that is not above x; the derivative is 0."""
    _need_real("floor", x)
    return np.floor(x, out=out)


@floor.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (_flat(g),)


@primitive(np.ceil, analytic=False)
def ceil(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the smallest integer that is not below x; the derivative is 0."""
    _need_real("ceil", x)
    return np.ceil(x, out=out)


@ceil.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (_flat(g),)


@primitive(np.trunc, analytic=False)
def trunc(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return x without what stands after the point; the derivative is 0."""
    _need_real("trunc", x)
    return np.trunc(x, out=out)


@trunc.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (_flat(g),)


@primitive(np.rint, analytic=False)
def rint(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the nearest integer, the even one of two; the derivative is 0."""
    _need_real("rint", x)
    return np.rint(x, out=out)


@rint.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (_flat(g),)


@primitive(np.sign, analytic=False)
def sign(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return -1, 0 or 1; the derivative is 0."""
    _need_real("sign", x)
    return np.sign(x, out=out)


@sign.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (_flat(g),)


@primitive(np.round, np.around, analytic=False)
def round(x: Operand, /, decimals: int = 0, *, out: Array | None = None) -> Any:
    """Return x rounded to `decimals` places, halves to even; the derivative is 0."""
    _need_real("round", x)
    return np.round(x, decimals, out=out)


@round.rule()
def _(g: Any, y: Any, x: Any, *, decimals: int) -> Any:
    return (_flat(g),)


@primitive(np.floor_divide, analytic=False)
def floor_divide(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return floor(a / b), what `//` means; the derivatives are 0."""
    _need_real("floor_divide", a, b)
    return np.floor_divide(a, b, out=out)


@floor_divide.rule()
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return _flat(g), _flat(g)


@primitive(np.remainder, analytic=False)
def remainder(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a - floor(a / b) * b, with the sign of b: what `%` means; the derivatives are 1 and -floor(a / b)."""
    _need_real("remainder", a, b)
    return np.remainder(a, b, out=out)


@remainder.rule(keep="y a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, lambda: -g * np.rint((a - y) / b)


@primitive(np.fmod, analytic=False)
def fmod(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a - trunc(a / b) * b, with the sign of a; the derivatives are 1 and -trunc(a / b)."""
    _need_real("fmod", a, b)
    return np.fmod(a, b, out=out)


@fmod.rule(keep="y a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, lambda: -g * np.rint((a - y) / b)


# -- derived --------------------------------------------------------------------------------------------------------


@implements(np.fix)
def fix(x: Operand) -> Any:
    """Return trunc(x)."""
    return trunc(x)


@implements(np.divmod)
def divmod(a: Operand, b: Operand) -> Any:
    """Return (floor_divide(a, b), remainder(a, b))."""
    return floor_divide(a, b), remainder(a, b)


@implements(np.modf)
def modf(x: Operand) -> Any:
    """Return (what stands after the point, what stands before it), both with the sign of x."""
    x = np.multiply(x, 1.0)  # integers have parts too, floating point ones
    whole = trunc(x)
    return x - whole, whole
