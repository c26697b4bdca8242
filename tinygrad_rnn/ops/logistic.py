"""The logistic function and its logarithm, with full relative precision for arguments of any size."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import applied, delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value
from .elementwise import negative


@primitive()
def sigmoid(x: Array, /, *, out: Array | None = None) -> Array:
    """Return the logistic function 1 / (1 + exp(-x)); dy/dx = y * (1 - y).

    Every result that is a normal number has full relative precision: sigmoid(-40.0) is 4.2e-18. For x below -709.8
    (-88.7 for float32) it is 0; `log_sigmoid` has no such limit. The derivative is computed as
    y * sigmoid(-x), since 1 - y is 0 from x = 37 on.
    """
    values = np.asarray(x)
    if values.dtype.kind == "c":
        return delivered(_complex_sigmoid(values), out)
    if values.dtype.kind != "f":
        values = values.astype(
            np.float64
        )  # there is no -x of truth values, and it is no negative number of unsigned ones
    y = applied(np.negative, values, out)
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    np.add(y, 1, out=y)
    np.divide(1, y, out=y)
    return y


def _complex_sigmoid(z: Array) -> Array:
    if z.size and z.real.min() > -80:  # exp(80) is a number in either precision
        return np.asarray(1 / (1 + np.exp(-z)))
    left = z.real < 0
    with np.errstate(invalid="ignore"):  # of NaN
        e = np.exp(np.where(left, z, -z))  # of modulus 1 at most
        return np.asarray(np.where(left, e, 1) / (1 + e))


@sigmoid.rule(keep="y x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * _sigmoid_slope(y, x),)


@primitive()
def _sigmoid_slope(y: Array, x: Array, /, *, out: Array | None = None) -> Array:
    """Return y * sigmoid(-x) as y / (1 + exp(x)): the derivative of y = sigmoid(x), where 1 - y would cancel."""
    if np.iscomplexobj(x) or np.iscomplexobj(y):
        return delivered(np.asarray(y * _complex_sigmoid(-np.asarray(x, complex))), out)
    if isinstance(x, int | float):
        x = np.asarray(x, np.result_type(y, x))
    own = out if out is None or not np.may_share_memory(out, y) else None  # y is read after exp(x) is written
    with np.errstate(over="ignore"):
        e = np.asarray(np.exp(x, out=own))
    np.add(e, 1, out=e)
    if out is None and e.shape == np.broadcast_shapes(e.shape, np.shape(y)):
        out = e
    return np.asarray(np.divide(y, e, out=out))


@_sigmoid_slope.rule(keep="s x")
def _(g: Value, s: Value, y: Value, x: Value) -> Cotangents:
    return lambda: g * sigmoid(-x), lambda: -g * s * sigmoid(x)


@primitive()
def softplus(x: Array, /, *, out: Array | None = None) -> Array:
    """Return log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), which never overflows; dy/dx = sigmoid(x).

    It is the negative logarithm of the probability for a logit -x.

    >>> import tinygrad_rnn as tr
    >>> float(tr.softplus(-40.0)), float(tr.softplus(800.0))
    (4.248354255291589e-18, 800.0)
    """
    if not np.iscomplexobj(x):
        return np.asarray(np.logaddexp(x, 0.0, out=out))
    z = np.asarray(x)
    right = z.real > 0
    with np.errstate(invalid="ignore"):  # of NaN
        e = np.exp(np.where(right, -z, z))
        # the real part of log(1 + e) is not exact for small e in NumPy's log1p of complex numbers
        real = 0.5 * np.log1p(e.real * (2 + e.real) + e.imag * e.imag)
        return delivered(np.asarray(np.where(right, z, 0) + (real + 1j * np.arctan2(e.imag, 1 + e.real))), out)


@softplus.rule(keep="x")
def _(g: Value, y: Value, x: Value) -> Cotangents:
    return (g * sigmoid(x),)


# -- derived --------------------------------------------------------------------------------------------------------


@unary()
def log_sigmoid(x: Operand) -> Value:
    """Return log(sigmoid(x)) as -softplus(-x), finite for every finite x; dy/dx = sigmoid(-x).

    >>> import tinygrad_rnn as tr
    >>> float(tr.log_sigmoid(-800.0))
    -800.0
    """
    return negative(softplus(negative(x)))
