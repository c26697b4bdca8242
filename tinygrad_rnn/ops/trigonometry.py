"""Trigonometric and hyperbolic functions and their inverses; angles in radians."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value
from .elementwise import multiply


@primitive(np.sin)
def sin(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the sine of x; dy/dx = cos(x)."""
    return np.sin(x, out=out)


@sin.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * np.cos(x),)


@primitive(np.cos)
def cos(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the cosine of x; dy/dx = -sin(x)."""
    return np.cos(x, out=out)


@cos.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (-g * np.sin(x),)


@primitive(np.tan)
def tan(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the tangent of x; dy/dx = 1 + y * y."""
    return np.tan(x, out=out)


@tan.rule(keep="y")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * (1 + y * y),)


@primitive(np.arcsin)
def arcsin(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the angle in [-pi/2, pi/2] whose sine is x; dy/dx = 1 / sqrt(1 - x * x)."""
    return np.arcsin(x, out=out)


@arcsin.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / np.sqrt((1 - x) * (1 + x)),)


@primitive(np.arccos)
def arccos(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the angle in [0, pi] whose cosine is x; dy/dx = -1 / sqrt(1 - x * x)."""
    return np.arccos(x, out=out)


@arccos.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (-g / np.sqrt((1 - x) * (1 + x)),)


@primitive(np.arctan)
def arctan(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the angle in [-pi/2, pi/2] whose tangent is x; dy/dx = 1 / (1 + x * x)."""
    return np.arctan(x, out=out)


@arctan.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (1 + x * x),)


@primitive(np.sinh)
def sinh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the hyperbolic sine of x; dy/dx = cosh(x)."""
    return np.sinh(x, out=out)


@sinh.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * np.cosh(x),)


@primitive(np.cosh)
def cosh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the hyperbolic cosine of x; dy/dx = sinh(x)."""
    return np.cosh(x, out=out)


@cosh.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * np.sinh(x),)


@primitive(np.arcsinh)
def arcsinh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the inverse of sinh; dy/dx = 1 / sqrt(1 + x * x)."""
    return np.arcsinh(x, out=out)


@arcsinh.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / hypot(1, x),)


@primitive(np.arccosh)
def arccosh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the inverse of cosh, for x >= 1; dy/dx = 1 / sqrt(x * x - 1)."""
    return np.arccosh(x, out=out)


@arccosh.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / (np.sqrt(x - 1) * np.sqrt(x + 1)),)


@primitive(np.arctanh)
def arctanh(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the inverse of tanh, for |x| <= 1; dy/dx = 1 / (1 - x * x)."""
    return np.arctanh(x, out=out)


@arctanh.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g / ((1 - x) * (1 + x)),)


@primitive(np.arctan2)
def arctan2(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return the angle in (-pi, pi] of the point (b, a); it has no derivative at (0, 0): nan."""
    if not (np.iscomplexobj(a) or np.iscomplexobj(b)):
        return np.arctan2(a, b, out=out)
    # Turned by the angle of the real parts the point lies near the positive axis, where arctan is the analytic angle.
    angle = np.arctan2(np.real(a), np.real(b))
    across, along = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return delivered(np.asarray(angle + np.arctan(across / along)), out)


@arctan2.rule(keep="a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    radius = hypot(a, b)
    return lambda: g * (b / radius) / radius, lambda: -g * (a / radius) / radius


@primitive(np.hypot)
def hypot(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return sqrt(a * a + b * b) for real numbers, without overflow; the derivative at (0, 0) is taken as 0."""
    if not (np.iscomplexobj(a) or np.iscomplexobj(b)):
        return np.hypot(a, b, out=out)
    return delivered(np.asarray(np.sqrt(a * a + b * b)), out)  # the analytic function that it is on the real numbers


@hypot.rule(keep="y a b")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    g = np.where(y == 0, 0, g) / np.where(y == 0, 1, y)
    return lambda: g * a, lambda: g * b


# -- derived --------------------------------------------------------------------------------------------------------


@unary(np.deg2rad, np.radians)
def deg2rad(x: Operand) -> Value:
    """Return degrees x in radians."""
    return multiply(x, np.pi / 180)


@unary(np.rad2deg, np.degrees)
def rad2deg(x: Operand) -> Value:
    """Return radians x in degrees."""
    return multiply(x, 180 / np.pi)
