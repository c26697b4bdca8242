"""Exponentials, logarithms and roots beyond exp, log and sqrt."""

from __future__ import annotations

import math

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import binary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value
from .elementwise import divide, multiply, promoted
from .logistic import sigmoid

_LN2, _LN10 = math.log(2), math.log(10)


@primitive(np.log1p)
def log1p(x: Array, /, *, out: Array | None = None) -> Array:
    """Return log(1 + x), exact for small x; dy/dx = 1 / (1 + x)."""
    return np.log1p(x, out=out)


@log1p.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (1 + x),)


@primitive(np.expm1)
def expm1(x: Array, /, *, out: Array | None = None) -> Array:
    """Return exp(x) - 1, exact for small x; dy/dx = exp(x)."""
    return np.expm1(x, out=out)


@expm1.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * np.exp(x),)


@primitive(np.log2)
def log2(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the logarithm of x to base 2, in bits."""
    return np.log2(x, out=out)


@log2.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (x * _LN2),)


@primitive(np.log10)
def log10(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the logarithm of x to base 10."""
    return np.log10(x, out=out)


@log10.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (x * _LN10),)


@primitive(np.exp2)
def exp2(x: Array, /, *, out: Array | None = None) -> Array:
    """Return 2 ** x; dy/dx = y * log(2)."""
    return np.exp2(x, out=out)


@exp2.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * y * _LN2,)


@primitive(np.cbrt)
def cbrt(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the real cube root of x; dy/dx = 1 / (3 * y * y)."""
    if not np.iscomplexobj(x):
        return np.cbrt(x, out=out)
    sign = np.where(np.real(x) < 0, -1, 1)  # the branch that is real on the real numbers
    return delivered(np.asarray(sign * (sign * x) ** (1 / 3)), out)


@cbrt.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (3 * y * y),)


@primitive(np.logaddexp)
def logaddexp(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return log(exp(a) + exp(b)) without overflow; a sum of probabilities in log space.

    dy/da = exp(a - y) = sigmoid(a - b). Where both are -inf (no probability at all) the derivative is 0.
    """
    if not (np.iscomplexobj(a) or np.iscomplexobj(b)):
        return np.logaddexp(a, b, out=out)
    larger = np.greater_equal(np.real(a), np.real(b))
    most, least = np.where(larger, a, b), np.where(larger, b, a)
    equal = np.equal(least, most)
    apart = np.where(equal, 0, least) - np.where(equal, 0, most)
    return delivered(np.asarray(np.add(most, np.log1p(np.exp(apart)))), out)


@logaddexp.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    equal = a == b  # infinities too, which have no difference
    apart = np.where(equal, 0, a) - np.where(equal, 0, b)
    g = np.where(np.logical_and(a == -np.inf, b == -np.inf), 0, g)
    return lambda: g * sigmoid(apart), lambda: g * sigmoid(-apart)


# -- derived --------------------------------------------------------------------------------------------------------


@binary(np.logaddexp2)
def logaddexp2(a: Operand, b: Operand) -> Value:
    """Return log2(2 ** a + 2 ** b) without overflow."""
    a, b = promoted(np.logaddexp2, a, b)
    return divide(logaddexp(multiply(a, _LN2), multiply(b, _LN2)), _LN2)
