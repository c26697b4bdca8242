"""Piecewise constant functions, and remainders.

Rounding is constant between its jumps, so its derivative is 0. It is recorded nevertheless, so that code runs with or
without a gradient, and the gradient that comes back is exactly 0. To learn through a rounding, use a straight-through
estimate, `x + tr.cut(np.round(x) - x)`. The derivative of a remainder with respect to its dividend is 1.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.table import implements
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value
from ..engine.types import Numbers
from ..errors import DTypeError


def _flat(g: Value) -> Value:
    """Return the cotangent that a constant sends back: 0, even if g is not finite."""
    return np.where(False, g, 0)


def _need_real(name: str, *operands: Array) -> None:
    for operand in operands:
        if np.iscomplexobj(operand):
            array = np.asarray(operand)  # perhaps a Python number
            raise DTypeError(f"{name}: expected real numbers, got dtype {array.dtype} of shape {array.shape}")


@primitive(np.floor, analytic=False)
def floor(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the largest integer that is not above x; the derivative is 0."""
    _need_real("floor", x)
    return np.floor(x, out=out)


@floor.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (_flat(g),)


@primitive(np.ceil, analytic=False)
def ceil(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the smallest integer that is not below x; the derivative is 0."""
    _need_real("ceil", x)
    return np.ceil(x, out=out)


@ceil.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (_flat(g),)


@primitive(np.trunc, analytic=False)
def trunc(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the integral part of x, rounded toward 0; the derivative is 0."""
    _need_real("trunc", x)
    return np.trunc(x, out=out)


@trunc.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (_flat(g),)


@primitive(np.rint, analytic=False)
def rint(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the nearest integer, the even one of two; the derivative is 0."""
    _need_real("rint", x)
    return np.rint(x, out=out)


@rint.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (_flat(g),)


@primitive(np.sign, analytic=False)
def sign(x: Array, /, *, out: Array | None = None) -> Array:
    """Return -1, 0 or 1; the derivative is 0."""
    _need_real("sign", x)
    return np.sign(x, out=out)


@sign.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (_flat(g),)


@primitive(np.round, np.around, analytic=False)
def round(x: Array, /, decimals: int = 0, *, out: Array | None = None) -> Array:
    """Return x rounded to `decimals` places, halves to even; the derivative is 0."""
    _need_real("round", x)
    if out is not None and out.dtype.kind != "f":  # NumPy's own out= fails for tens of whole numbers
        return delivered(np.asarray(np.round(x, decimals)), out)
    return np.round(x, decimals, out=out)


@round.rule()
def _(g: Value, y: Value, x: Value, *, decimals: int) -> Cotangents:
    return (_flat(g),)


@primitive(np.floor_divide, analytic=False)
def floor_divide(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return floor(a / b), what `//` means; the derivatives are 0."""
    _need_real("floor_divide", a, b)
    return np.floor_divide(a, b, out=out)


@floor_divide.rule()
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return _flat(g), _flat(g)


@primitive(np.remainder, analytic=False)
def remainder(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a - floor(a / b) * b, with the sign of b: what `%` means; the derivatives are 1 and -floor(a / b)."""
    _need_real("remainder", a, b)
    return np.remainder(a, b, out=out)


@remainder.rule(keep="y a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return g, lambda: -g * np.rint((a - y) / b)


@primitive(np.fmod, analytic=False)
def fmod(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a - trunc(a / b) * b, with the sign of a; the derivatives are 1 and -trunc(a / b)."""
    _need_real("fmod", a, b)
    return np.fmod(a, b, out=out)


@fmod.rule(keep="y a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return g, lambda: -g * np.rint((a - y) / b)


# -- derived --------------------------------------------------------------------------------------------------------


@unary(np.fix)
def fix(x: Operand) -> Value:
    """Return trunc(x)."""
    return trunc(x)


@overload
def divmod(a: Tensor, b: Operand) -> tuple[Tensor, Tensor]: ...
@overload
def divmod(a: Operand, b: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def divmod(a: Numbers, b: Numbers) -> tuple[Array, Array]: ...
@implements(np.divmod)
def divmod(a: Operand, b: Operand) -> tuple[Value, Value]:
    """Return (floor_divide(a, b), remainder(a, b))."""
    return floor_divide(a, b), remainder(a, b)


@overload
def modf(x: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def modf(x: Numbers) -> tuple[Array, Array]: ...
@implements(np.modf)
def modf(x: Operand) -> tuple[Value, Value]:
    """Return (fractional part, integral part), both with the sign of x."""
    x = np.multiply(x, 1.0)  # NumPy's parts of integers are floating point numbers too
    whole = trunc(x)
    return x - whole, whole
