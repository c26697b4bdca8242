"""Systems of linear equations."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import delivered
from ..engine.primitive import Cotangents, primitive
from ..engine.tape import Array
from ..engine.tensor import Value
from ..errors import NonFiniteError, ShapeError


@primitive(np.linalg.inv)
def inv(a: Array, /, *, out: Array | None = None) -> Array:
    """Return the inverse of matrices (..., M, M); for `inv(a) @ b`, `solve(a, b)` is faster and more exact.

    Raises:
        NonFiniteError: if a matrix has none.
        ShapeError: if the matrices are not square.
    """
    a = np.asarray(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"inv: expected matrices (..., M, M), got shape {a.shape}")
    return delivered(_solved("inv", a, np.eye(a.shape[-1], dtype=a.dtype)), out)


@inv.rule(keep="y")
def _(g: Value, y: Value, a: Value) -> Cotangents:
    def left() -> Value:
        transposed = np.swapaxes(y, -1, -2)
        made: Value = -(transposed @ g @ transposed)
        return made

    return (left,)


@primitive(np.linalg.solve)
def solve(a: Array, b: Array, /, *, out: Array | None = None) -> Array:
    """Return x with a @ x = b, for matrices a (..., M, M) and b: one vector (M,), or matrices (..., M, K).

    The cotangent of b is that of x, solved with the transposed a (Giles 2008).

    Raises:
        NonFiniteError: if a matrix is singular.
        ShapeError: if the shapes do not fit.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.ones(2)).tolist()
    [0.5, 0.25]
    """
    a, b = np.asarray(a), np.asarray(b)
    vector = b.ndim == 1
    if a.ndim < 2 or not b.ndim or not a.shape[-1] == a.shape[-2] == b.shape[-1 if vector else -2]:
        raise ShapeError(
            "solve: expected matrices a (..., M, M) and b, a vector (M,) or matrices (..., M, K), got shapes "
            f"{a.shape} and {b.shape}; vectors (N, M) are b[..., None]"
        )
    return delivered(_solved("solve", a, b[:, None])[..., 0] if vector else _solved("solve", a, b), out)


@solve.rule(keep="a y")
def _(g: Value, y: Value, a: Value, b: Value) -> Cotangents:
    vector = len(b.shape) == 1

    def right() -> Value:
        transposed = np.swapaxes(a, -1, -2)
        made: Value = np.linalg.solve(transposed, np.expand_dims(g, -1) if vector else g)
        return np.squeeze(made, -1) if vector else made

    def left() -> Value:
        back = right()
        made: Value = -np.expand_dims(back, -1) * np.expand_dims(y, -2) if vector else -back @ np.swapaxes(y, -1, -2)
        return made

    return left, right


def _solved(name: str, a: Array, b: Array) -> Array:
    """Return x with a @ x = b; half precision is computed in single, more than double refined from double."""
    made = np.result_type(a, b)
    dtype = made if made.kind in "fc" else np.dtype(np.float64)
    widest = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    near = min(np.promote_types(np.float32, dtype), widest, key=lambda one: one.itemsize)
    left = a.astype(near)
    try:
        x = np.linalg.solve(left, b.astype(near)).astype(dtype)
    except np.linalg.LinAlgError as error:
        raise NonFiniteError(
            f"{name}: a matrix is singular, so that there is no result; add a small multiple of np.eye(M) to it"
        ) from error
    for _ in range(2 * (near.itemsize < dtype.itemsize)):
        x = x + np.linalg.solve(left, (b - a @ x).astype(near))
    return x
