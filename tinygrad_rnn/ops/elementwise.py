"""Elementwise primitives, with NumPy broadcasting, and functions derived from them.

Inputs of any shape, real or complex. At a kink (relu at 0, equal arguments of maximum) the rule takes the middle of
the two one-sided derivatives for `maximum`, and 0 for `relu`. Where a result is NaN its derivative is NaN too,
and a cotangent of 0 stays 0.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import DTypeLike

from ..engine.arrays import applied, delivered
from ..engine.operands import as_value, without_gradient
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array, context
from ..engine.tensor import Operand, Tensor, Value
from ..errors import DTypeError, UnsupportedError


@primitive(np.add)
def add(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a + b."""
    return np.add(a, b, out=out)


@add.rule()
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return g, g


@primitive(np.subtract)
def subtract(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a - b."""
    return np.subtract(a, b, out=out)


@subtract.rule()
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return g, lambda: -g


@primitive(np.multiply)
def multiply(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a * b."""
    return np.multiply(a, b, out=out)


@multiply.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return lambda: g * b, lambda: g * a


@primitive(np.divide)
def divide(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a / b."""
    return np.divide(a, b, out=out)


@divide.rule(keep="y b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return lambda: g / b, lambda: -g * y / b


@primitive(np.negative)
def negative(x: Array, /, *, out: Array | None = None) -> Array:
    """Return -x."""
    return applied(np.negative, x, out)


@negative.rule()
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (-g,)


@primitive(np.power)
def power(x: Array, n: Array, /, *, out: Array | None = None) -> Array:
    """Return x ** n; the derivative with respect to n is defined for x > 0 (and taken as 0 at x = 0)."""
    return np.power(x, n, out=out)


@power.rule(keep="y x n")
def _(g: Value, y: Value, x: Value, n: Value | complex) -> Cotangents:
    def base() -> Value:
        # n * x ** (n - 1), without 0 * inf where n = 0. A Python number stays one, or float32 would become float64.
        number = isinstance(n, int | float | complex)
        return g * n * x ** ((n - 1 if n else 1) if number else np.where(n == 0, 1, n - 1))

    def exponent() -> Value:
        return g * y * np.log(np.where(x == 0, 1, x))

    return base, exponent


@primitive(np.exp)
def exp(x: Array, /, *, out: Array | None = None) -> Array:
    """Return e ** x."""
    return np.exp(x, out=out)


@exp.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * y,)


@primitive(np.log)
def log(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the natural logarithm of x, in nats."""
    return np.log(x, out=out)


@log.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / x,)


@primitive(np.sqrt)
def sqrt(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the square root of x."""
    return np.sqrt(x, out=out)


@sqrt.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * 0.5 / y,)


@primitive(np.tanh)
def tanh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the hyperbolic tangent of x; dy/dx = 1 - y * y."""
    return np.tanh(x, out=out)


@tanh.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * (1 - y * y),)


@primitive(analytic=False)
def relu(x: Array, /, *, out: Array | None = None) -> Array:
    """Return max(x, 0); the derivative at 0 is taken as 0, and that at NaN is NaN."""
    return np.maximum(x, 0, out=out)


@relu.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (np.where(y > 0, g, np.where(g == 0, 0, y)),)  # y is 0 there, or NaN


@primitive(np.maximum, analytic=False)
def maximum(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return the larger of a and b; where they are equal each gets half of the cotangent.

    Where the result is NaN, because one of them is, the derivatives are NaN.
    """
    return np.maximum(a, b, out=out)


@maximum.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return _chosen(g, a > b, a < b, a == b)


@primitive(np.minimum, analytic=False)
def minimum(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return the smaller of a and b; where they are equal each gets half of the cotangent.

    Where the result is NaN, because one of them is, the derivatives are NaN.
    """
    return np.minimum(a, b, out=out)


@minimum.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    return _chosen(g, a < b, a > b, a == b)


def undefined(g: Value) -> Value:
    """Return the cotangent where a derivative is NaN: NaN, but 0 where g is 0, because masked elements do not count."""
    return np.where(g == 0, g, np.nan)  # not 0 and NaN alone, which would be float64 for any g


def _chosen(g: Value, first: Value, second: Value, equal: Value) -> Cotangents:
    """Return the cotangents of two operands of which the first or the second was chosen, both, or none: one is NaN."""
    shared = np.where(equal, g * 0.5, undefined(g))
    return lambda: np.where(first, g, np.where(second, 0, shared)), lambda: np.where(
        second, g, np.where(first, 0, shared)
    )


@primitive(np.where)
def where(condition: Array, a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return a where `condition` holds, else b."""
    if out is None or any(np.may_share_memory(out, value) for value in (condition, a, b)):
        return delivered(np.asarray(np.where(condition, a, b)), out)
    np.copyto(out, b)
    np.copyto(out, a, where=np.asarray(condition, bool))
    return out


@where.rule(keep="condition")
def _(g: Value, y: Value, condition: Value, a: Value, b: Value) -> Cotangents:
    return None, lambda: np.where(condition, g, 0), lambda: np.where(condition, 0, g)


@primitive(np.astype, analytic=False)
def astype(x: Array, /, dtype: DTypeLike, *, out: Array | None = None) -> Array:
    """Return x in another dtype; the cotangent comes back in the dtype of x."""
    if out is None:
        return np.asarray(x).astype(dtype)
    if out.dtype != dtype:
        raise DTypeError(f"astype: expected out of dtype {np.dtype(dtype)}, got {out.dtype}")
    np.copyto(out, x, casting="unsafe")
    return out


@astype.rule()
def _(g: Value, y: Value, x: Value, *, dtype: DTypeLike) -> Cotangents:
    return (g,)


@overload
def widened(x: Tensor) -> Tensor: ...
@overload
def widened(x: Array) -> Array: ...
@overload
def widened(x: Operand) -> Operand: ...
def widened(x: Operand) -> Operand:
    """Return x in float32 if it is in half precision, which sums must not be added up in; else x itself."""
    return astype(x, np.float32) if getattr(x, "dtype", None) == np.float16 else x


def narrowed(y: Value, x: Operand) -> Value:
    """Return y, computed of `widened(x)`, in half precision if x is."""
    return astype(y, np.float16) if getattr(x, "dtype", None) == np.float16 else y


def promoted(function: np.ufunc, a: Operand, b: Operand) -> tuple[Operand, Operand]:
    """Return operands in the dtype in which a NumPy function of two computes with them; Python numbers stay.

    >>> [part.dtype.name for part in promoted(np.copysign, np.ones(2, np.float32), np.zeros(2))]
    ['float64', 'float64']
    """
    parts = [
        part if isinstance(part, Tensor) or type(part) in (int, float, complex) else np.asarray(part) for part in (a, b)
    ]
    if any(np.iscomplexobj(part) for part in parts):  # complex step, which NumPy's function may not know
        return parts[0], parts[1]
    dtype = function.resolve_dtypes((*(getattr(part, "dtype", type(part)) for part in parts), None))[0]
    made = [astype(part, dtype) if getattr(part, "dtype", dtype) != dtype else part for part in parts]
    return made[0], made[1]


# -- derived --------------------------------------------------------------------------------------------------------


@unary(np.absolute)
def absolute(x: Operand) -> Value:
    """Return |x| for real x, as max(x, -x); the derivative at 0 is 0.

    Complex numbers pass if their imaginary part is the step of a complex-step derivative, too small to change the
    absolute value: then |x + ih| = |x| + ih sign(x).

    Raises:
        UnsupportedError: for other complex numbers, of which |z| has no complex derivative.
    """
    values = x._array if isinstance(x, Tensor) else np.asarray(x)
    if values.dtype.kind == "c" and (context().tracer is not None or not _is_step(values)):
        raise UnsupportedError(
            f"absolute: |z| has no complex derivative, and a complex operand of shape {values.shape} was given; hold "
            "the real and the imaginary part in Tensors of their own and take sqrt(re * re + im * im)"
        )
    if values.dtype.kind in "ub":  # which have no negative numbers: -x would wrap round
        return positive(x)
    return add(maximum(x, negative(x)), 0)  # + 0 makes 0.0 of -0.0, which the maximum may be


def _is_step(z: Array) -> bool:
    """Return whether imaginary parts are too small to count, relative to the real ones or absolutely."""
    imaginary = np.abs(z.imag).max(initial=0)
    return bool(imaginary <= 1e-15 * np.abs(z.real).max(initial=0) or imaginary <= 1e-25)


def as_asked(made: Value, dtype: DTypeLike | None) -> Value:
    """Return a reduction in the dtype that was asked for: NumPy's sums of bytes have 64 bits unless one is."""
    return made if dtype is None or made.dtype == dtype else astype(made, dtype)


@unary(np.square)
def square(x: Operand) -> Value:
    """Return x * x, of truth values as numbers."""
    x = as_value(x)
    return multiply(x, astype(x, np.int8) if x.dtype == bool else x)


@unary(np.reciprocal)
def reciprocal(x: Operand) -> Value:
    """Return 1 / x, of whole numbers without a remainder, as NumPy does."""
    x = as_value(x)
    return divide(1, x) if x.dtype.kind in "fc" else without_gradient("reciprocal", np.reciprocal, x)


@unary(np.clip)
def clip(
    a: Operand,
    a_min: Operand | None = None,
    a_max: Operand | None = None,
    *,
    min: Operand | None = None,
    max: Operand | None = None,
) -> Value:
    """Return a limited to a_min and a_max, also called min and max; None means no limit on that side.

    It is minimum(maximum(a, a_min), a_max), and so are its derivatives: 1 between the bounds, 0 beyond them, and at a
    bound half of the cotangent goes to a and half to the bound.

    Raises:
        UnsupportedError: if a bound is given by both of its names.
    """
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise UnsupportedError("clip: a bound was given twice, as a_min and min or as a_max and max; give it once")
    low, high = a_min if min is None else min, a_max if max is None else max
    a = as_value(a)
    if (dtype := a.dtype).kind in "iu":  # a bound beyond the range of the dtype is none, as in NumPy
        low = None if isinstance(low, int) and low < np.iinfo(dtype).min else low
        high = None if isinstance(high, int) and high > np.iinfo(dtype).max else high
    if low is not None:
        a = maximum(a, low)
    return as_value(a) if high is None else minimum(a, high)


@unary(np.positive)
def positive(x: Operand) -> Value:
    """Return x."""
    return as_value(x)
