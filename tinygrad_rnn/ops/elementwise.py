"""Elementwise primitives, with NumPy broadcasting, and what is derived from them.

Inputs of any shape, real or complex. At a kink (relu at 0, equal arguments of maximum) the rule takes the middle of
the two one-sided derivatives for `maximum`, and 0 for `relu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..engine.arrays import delivered
from ..engine.primitive import primitive
from ..engine.tape import Array
from ..engine.tensor import Operand, implements
from ..errors import DTypeError


@primitive(np.add)
def add(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a + b."""
    return np.add(a, b, out=out)


@add.rule()
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, g


@primitive(np.subtract)
def subtract(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a - b."""
    return np.subtract(a, b, out=out)


@subtract.rule()
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, lambda: -g


@primitive(np.multiply)
def multiply(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a * b."""
    return np.multiply(a, b, out=out)


@multiply.rule(keep="a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return lambda: g * b, lambda: g * a


@primitive(np.divide)
def divide(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a / b."""
    return np.divide(a, b, out=out)


@divide.rule(keep="y b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    return lambda: g / b, lambda: -g * y / b


@primitive(np.negative)
def negative(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return -x."""
    return np.negative(x, out=out)


@negative.rule()
def _(g: Any, y: Any, x: Any) -> Any:
    return (-g,)


@primitive(np.power)
def power(x: Operand, n: Operand, /, *, out: Array | None = None) -> Any:
    """Return x ** n; the derivative with respect to n is defined for x > 0 (and taken as 0 at x = 0)."""
    return np.power(x, n, out=out)


@power.rule(keep="y x n")
def _(g: Any, y: Any, x: Any, n: Any) -> Any:
    def base() -> Any:
        # n * x ** (n - 1), without 0 * inf where n = 0. A Python number stays one, or float32 would become float64.
        number = isinstance(n, int | float | complex)
        return g * n * x ** ((n - 1 if n else 1) if number else np.where(n == 0, 1, n - 1))

    def exponent() -> Any:
        return g * y * np.log(np.where(x == 0, 1, x))

    return base, exponent


@primitive(np.exp)
def exp(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return e ** x."""
    return np.exp(x, out=out)


@exp.rule(keep="y")
def _(g: Any, y: Any, x: Any) -> Any:
    return (g * y,)


@primitive(np.log)
def log(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the natural logarithm of x, in nats."""
    return np.log(x, out=out)


@log.rule(keep="x")
def _(g: Any, y: Any, x: Any) -> Any:
    return (g / x,)


@primitive(np.sqrt)
def sqrt(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the square root of x."""
    return np.sqrt(x, out=out)


@sqrt.rule(keep="y")
def _(g: Any, y: Any, x: Any) -> Any:
    return (g * 0.5 / y,)


@primitive(np.tanh)
def tanh(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the hyperbolic tangent of x; dy/dx = 1 - y * y."""
    return np.tanh(x, out=out)


@tanh.rule(keep="y")
def _(g: Any, y: Any, x: Any) -> Any:
    return (g * (1 - y * y),)


@primitive()
def sigmoid(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return the logistic function 1 / (1 + exp(-x)); dy/dx = y * (1 - y).

    Computed as (tanh(x / 2) + 1) / 2: no overflow for any x, complex-analytic, and one fast call.
    """
    half = np.tanh(np.multiply(x, 0.5, out=out), out=out)
    return np.asarray(np.add(np.multiply(half, 0.5, out=out), 0.5, out=out))


@sigmoid.rule(keep="y")
def _(g: Any, y: Any, x: Any) -> Any:
    return (g * (y * (1 - y)),)


@primitive(analytic=False)
def relu(x: Operand, /, *, out: Array | None = None) -> Any:
    """Return max(x, 0); the derivative at 0 is taken as 0."""
    return np.maximum(x, 0, out=out)


@relu.rule(keep="y")
def _(g: Any, y: Any, x: Any) -> Any:
    return (np.where(y > 0, g, 0),)


@primitive(np.maximum, analytic=False)
def maximum(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return the larger of a and b; where they are equal each gets half of the cotangent."""
    return np.maximum(a, b, out=out)


@maximum.rule(keep="a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    half = np.where(a == b, g * 0.5, 0)
    return np.where(a > b, g, half), np.where(b > a, g, half)


@primitive(np.minimum, analytic=False)
def minimum(a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return the smaller of a and b; where they are equal each gets half of the cotangent."""
    return np.minimum(a, b, out=out)


@minimum.rule(keep="a b")
def _(g: Any, y: Any, a: Any, b: Any) -> Any:
    half = np.where(a == b, g * 0.5, 0)
    return np.where(a < b, g, half), np.where(b < a, g, half)


@primitive(np.where)
def where(condition: Operand, a: Operand, b: Operand, /, *, out: Array | None = None) -> Any:
    """Return a where `condition` holds, else b."""
    if out is None or any(np.may_share_memory(out, value) for value in (condition, a, b)):
        return delivered(np.asarray(np.where(condition, a, b)), out)
    np.copyto(out, b)
    np.copyto(out, a, where=np.asarray(condition, bool))
    return out


@where.rule(keep="condition")
def _(g: Any, y: Any, condition: Any, a: Any, b: Any) -> Any:
    return None, lambda: np.where(condition, g, 0), lambda: np.where(condition, 0, g)


@primitive(np.astype)
def astype(x: Operand, /, dtype: DTypeLike, *, out: Array | None = None) -> Any:
    """Return x in another dtype; the cotangent comes back in the dtype of x."""
    if out is None:
        return np.asarray(x).astype(dtype)
    if out.dtype != dtype:
        raise DTypeError(f"astype: expected out of dtype {np.dtype(dtype)}, got {out.dtype}")
    np.copyto(out, x, casting="unsafe")
    return out


@astype.rule()
def _(g: Any, y: Any, x: Any, *, dtype: DTypeLike) -> Any:
    return (g,)


# -- derived --------------------------------------------------------------------------------------------------------


@implements(np.absolute)
def absolute(x: Operand) -> Any:
    """Return |x| for real x, as max(x, -x); the derivative at 0 is 0."""
    return maximum(x, -x)


@implements(np.square)
def square(x: Operand) -> Any:
    """Return x * x."""
    return multiply(x, x)


@implements(np.reciprocal)
def reciprocal(x: Operand) -> Any:
    """Return 1 / x."""
    return divide(1, x)


@implements(np.clip)
def clip(a: Operand, a_min: Operand = None, a_max: Operand = None) -> Any:
    """Return a held between a_min and a_max; None leaves that side open."""
    if a_min is not None:
        a = maximum(a, a_min)
    return a if a_max is None else minimum(a, a_max)


@implements(np.positive)
def positive(x: Operand) -> Any:
    """Return x."""
    return x
