"""NumPy's errors in terms of the operation: its name, the shapes of its arguments, its attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DTypeError, ShapeError, UnsupportedError
from .tape import Attributes

_KINDS = {np.exceptions.AxisError: ShapeError, IndexError: IndexError, TypeError: DTypeError}


def explained(
    error: Exception,
    name: str,
    known: Sequence[str],
    values: Sequence[object],
    attrs: Attributes,
    out: object = None,
) -> Exception:
    """Return an error that says which operation failed, and on what.

    Args:
        error: the error that its function raised; an error of this package is returned unchanged.
        name: of the operation.
        known: names of the attributes that it has.
        values: its operands.
        attrs: its attributes.
        out: the array, or tuple of arrays, that the result was to be written into.
    """
    if type(error).__module__ == ShapeError.__module__:
        return error
    unknown = sorted(attrs.keys() - set(known))
    if unknown:
        return UnsupportedError(
            f"{name}: the keyword arguments {unknown} are not supported on Tensors; it takes {list(known)}"
        )
    shapes = ", ".join(_shape(value) for value in values)
    extra = "".join(f", {key}={value!r}" for key, value in attrs.items() if not isinstance(value, np.ndarray))
    if out is not None:
        buffers = out if isinstance(out, tuple) else (out,)
        extra += ", out of " + ", ".join(f"shape {_shape(part)} {getattr(part, 'dtype', '')}" for part in buffers)
    kind = next((named for plain, named in _KINDS.items() if isinstance(error, plain)), ShapeError)
    return kind(f"{name}: {error} (arguments of shape {shapes}{extra})")


def _shape(value: object) -> str:
    return str(np.shape(value))  # type: ignore[call-overload]
