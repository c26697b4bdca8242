"""Read-only arrays, which a recorded graph needs, and arrays that results are written into."""

from __future__ import annotations

from numbers import Number

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..errors import DTypeError, TraceError, UnsupportedError
from .tape import Array, context


def frozen_copy(value: ArrayLike, dtype: DTypeLike | None = None, function: str = "tensor") -> Array:
    """Return a read-only copy of `value`, C-ordered, of a numeric dtype.

    Args:
        value: numbers.
        dtype: dtype to convert to, as `astype` does, except that complex numbers are not converted to real ones.
        function: what the user called, for the message.

    Raises:
        DTypeError: if the values are not numbers, or complex where real ones are wanted.
        UnsupportedError: if a Tensor among the values is recorded.
    """
    wanted = None if dtype is None else _numeric(dtype, function)
    array = as_numbers(value, function, wanted)
    if (tracer := context().tracer) is not None and array is value:
        tracer.seen(array)
    if wanted is not None and array.dtype.kind == "c" and wanted.kind != "c":
        raise DTypeError(
            f"{function}: expected real numbers for dtype {wanted}, got {array.dtype} of shape {array.shape}; "
            "the imaginary parts would be lost: take np.real(x) if that is meant"
        )
    array = np.array(array, dtype=wanted, order="C")
    array.flags.writeable = False
    return array


def _numeric(dtype: DTypeLike, function: str) -> np.dtype[np.generic]:
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"{function}: expected a dtype such as np.float32, got {dtype!r}") from error
    if wanted.kind not in "biufc":
        raise DTypeError(f"{function}: expected a dtype of numbers, got {wanted}")
    return wanted


def fitting_copy(value: ArrayLike, dtype: np.dtype[np.generic], function: str) -> Array:
    """Return a read-only copy of `value` in `dtype`, which must be able to hold it.

    Floating point numbers may lose digits; nothing else may be lost.

    Raises:
        DTypeError: if the values are not numbers, or of a kind that the dtype does not have.
        UnsupportedError: if a Tensor among the values is recorded.
    """
    array = as_numbers(value, function, dtype)
    if dtype.kind in "iu":
        fits = array.dtype.kind in "biu" and bool(np.all(array.astype(dtype) == array))
    else:
        fits = np.can_cast(array.dtype, dtype, "same_kind")
    if not fits:
        raise DTypeError(
            f"{function}: expected values that fit dtype {dtype}, got {array.dtype} of shape {array.shape}; convert "
            "them first, if losing something is meant"
        )
    return frozen_copy(array, dtype, function)


def as_numbers(value: object, function: str, dtype: DTypeLike | None = None) -> Array:
    """Return a value as an array of numbers, in their own dtype (in `dtype`, if they are too large for any).

    Args:
        value: numbers, nested lists of them, or an object with `__array__` or `__dlpack__`: a table, an array of
            another library.
        function: what the user called, for the message.
        dtype: the requested dtype.

    Raises:
        DTypeError: if the values are not numbers.
        UnsupportedError: if a Tensor among the values is recorded.
    """
    check_plain(value, function)
    try:
        array = np.from_dlpack(value) if _is_foreign(value) else np.asarray(value)  # type: ignore[arg-type]
        if array.dtype.kind == "O" and dtype is not None and all(isinstance(one, Number) for one in array.flat):
            array = np.asarray(value, dtype=dtype)
    except UnsupportedError as error:
        raise UnsupportedError(str(error).replace("np.asarray", function, 1)) from error
    except TraceError:
        raise
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise DTypeError(f"{function}: cannot make an array of numbers from {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "biufc":
        kind = "" if isinstance(value, np.ndarray) else f"{type(value).__name__} of "
        raise DTypeError(f"{function}: expected numbers, got {kind}dtype {array.dtype} of shape {array.shape}")
    return array


def check_plain(value: object, function: str) -> None:
    """Raise `DTypeError` for an array that means more than its numbers: a masked one, a matrix."""
    subclass = isinstance(value, np.ndarray) and type(value) is not np.ndarray  # else np.ma need not be imported
    if subclass and isinstance(value, np.ma.MaskedArray | np.matrix):
        lost = "its mask" if isinstance(value, np.ma.MaskedArray) else "its own meaning of *"
        raise DTypeError(
            f"{function}: expected a plain array, got {type(value).__name__} of shape {value.shape}: {lost} would be "
            "lost; pass np.asarray(x), or fill what is masked and leave it out with where()"
        )


def _is_foreign(value: object) -> bool:
    return hasattr(value, "__dlpack__") and not hasattr(value, "__array__")


def frozen(array: Array) -> Array:
    """Return `array` itself if its memory is read-only, else a read-only copy."""
    return array if is_fixed(array) else frozen_copy(array)


def is_fixed(array: Array) -> bool:
    """Return whether the memory of an array is read-only, also through the arrays that it is a view of."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None


def delivered(result: Array, out: Array | None) -> Array:
    """Return `result`, or `out` with `result` copied into it: `out=` of operations for which NumPy has none.

    Raises:
        ValueError: if the result does not fit the shape of `out`.
        TypeError: if its dtype cannot be cast to that of `out`.
    """
    if out is None:
        return result
    if np.shape(result) != out.shape:
        raise ValueError(f"expected out of shape {np.shape(result)}, got {out.shape}")
    np.copyto(out, result)
    return out


MISREAD = frozenset({np.negative, np.isfinite, np.isinf, np.isnan})
"""Functions with which NumPy (2.4 at least) takes or writes wrong elements where it is given an `out`, and that or the
operand is not contiguous."""


def applied(function: np.ufunc, x: Array, out: Array | None = None) -> Array:
    """Return what one of `MISREAD` makes of an array, in `out` if there is one."""
    if out is None or (x.flags.c_contiguous and out.flags.c_contiguous):
        return np.asarray(function(x, out=out))
    np.copyto(out, function(x))
    return out
