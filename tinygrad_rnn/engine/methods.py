"""NumPy's protocols and methods of a Tensor: each method is its NumPy function, found in the table, as operators are.

An operator of a Tensor *is* its NumPy function: `x + y` and `np.add(x, y)` both go through one table from NumPy
functions to the primitives that implement them (`implements`). NumPy's own protocols lead there too, so `np.tanh(x)`
and `array @ x` record, and a function that is not in the table raises `UnsupportedError` instead of losing a
gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Self, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DTypeError, UnsupportedError
from .operators import ArrayOperators
from .table import TABLE, Function, unsupported
from .tape import Array
from .types import Axis, Numbers

SortKind: TypeAlias = Literal["quicksort", "mergesort", "heapsort", "stable"]


class ArrayMethods(ArrayOperators):
    """The operators and methods that a Tensor has in common with arrays."""

    __slots__ = ()

    # -- NumPy's protocols --------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **kwargs: object) -> object:
        name = f"np.{ufunc.__name__}" if method == "__call__" else f"np.{ufunc.__name__}.{method}"
        if method != "__call__":
            raise unsupported(name)
        if "out" in kwargs:
            raise UnsupportedError(
                f"{name}: writing a recorded result into an existing array (out=, or array += tensor) would lose its "
                "gradient; write array = array + tensor"
            )
        if kwargs:
            raise UnsupportedError(
                f"{name}: keyword arguments {sorted(kwargs)} are not supported on Tensors; choose elements with "
                "np.where, convert with astype"
            )
        implementation = TABLE.get(ufunc)
        if implementation is None:
            raise unsupported(name)
        return implementation(*inputs)

    def __array_function__(
        self, func: Function, types: Collection[type], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        implementation = TABLE.get(func)
        if implementation is None:
            raise unsupported(_in_words(func))
        try:
            return implementation(*args, **kwargs)
        except TypeError as error:
            if isinstance(error, UnsupportedError | DTypeError) or "argument" not in str(error):
                raise
            known = ", ".join(name for name in inspect.signature(implementation).parameters if name != "out")
            raise UnsupportedError(f"{_in_words(func)} on Tensors: {error}; it takes {known}") from error

    # -- methods: NumPy's own, with its arguments in its order -------------------------------------------------------

    def sum(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
        keepdims: bool = False,
        initial: Self | Numbers | None = None,
        where: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.sum(self, axis, dtype, out, keepdims, initial, where)`."""
        return TABLE[np.sum](self, axis, dtype, out, keepdims, initial, where)

    def prod(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
        keepdims: bool = False,
        initial: Self | Numbers | None = None,
        where: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.prod(self, axis, dtype, out, keepdims, initial, where)`."""
        return TABLE[np.prod](self, axis, dtype, out, keepdims, initial, where)

    def mean(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
        keepdims: bool = False,
        *,
        where: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.mean(self, axis, dtype, out, keepdims, where=where)`."""
        return TABLE[np.mean](self, axis, dtype, out, keepdims, where=where)

    def var(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
        ddof: float = 0,
        keepdims: bool = False,
        *,
        where: Self | Numbers | None = None,
        mean: Self | Numbers | None = None,
        correction: float | None = None,
    ) -> Self:
        """Return `np.var(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean)`."""
        return TABLE[np.var](self, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)

    def std(
        self,
        axis: Axis = None,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
        ddof: float = 0,
        keepdims: bool = False,
        *,
        where: Self | Numbers | None = None,
        mean: Self | Numbers | None = None,
        correction: float | None = None,
    ) -> Self:
        """Return `np.std(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean)`."""
        return TABLE[np.std](self, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)

    def max(
        self,
        axis: Axis = None,
        out: Array | None = None,
        keepdims: bool = False,
        initial: Self | Numbers | None = None,
        where: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.max(self, axis, out, keepdims, initial, where)`."""
        return TABLE[np.max](self, axis, out, keepdims, initial, where)

    def min(
        self,
        axis: Axis = None,
        out: Array | None = None,
        keepdims: bool = False,
        initial: Self | Numbers | None = None,
        where: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.min(self, axis, out, keepdims, initial, where)`."""
        return TABLE[np.min](self, axis, out, keepdims, initial, where)

    def cumsum(self, axis: int | None = None, dtype: DTypeLike | None = None) -> Self:
        """Return `np.cumsum(self, axis, dtype)`."""
        return TABLE[np.cumsum](self, axis, dtype)

    def cumprod(self, axis: int | None = None, dtype: DTypeLike | None = None) -> Self:
        """Return `np.cumprod(self, axis, dtype)`."""
        return TABLE[np.cumprod](self, axis, dtype)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Array:
        """Return `np.argmax(self, axis, keepdims=keepdims)`, plain integers."""
        return TABLE[np.argmax](self, axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Array:
        """Return `np.argmin(self, axis, keepdims=keepdims)`, plain integers."""
        return TABLE[np.argmin](self, axis, keepdims=keepdims)

    def argsort(self, axis: int | None = -1, kind: SortKind | None = None, *, stable: bool | None = None) -> Array:
        """Return `np.argsort(self, axis, kind, stable=stable)`, plain integers."""
        return TABLE[np.argsort](self, axis, kind, stable=stable)

    def any(
        self, axis: Axis = None, out: Array | None = None, keepdims: bool = False, *, where: Self | Numbers = True
    ) -> Array:
        """Return `np.any(self, axis, out, keepdims, where=where)`, plain truth values."""
        return TABLE[np.any](self, axis, out, keepdims, where=where)

    def all(
        self, axis: Axis = None, out: Array | None = None, keepdims: bool = False, *, where: Self | Numbers = True
    ) -> Array:
        """Return `np.all(self, axis, out, keepdims, where=where)`, plain truth values."""
        return TABLE[np.all](self, axis, out, keepdims, where=where)

    def nonzero(self) -> tuple[Array, ...]:
        """Return `np.nonzero(self)`, plain integers."""
        return TABLE[np.nonzero](self)

    def searchsorted(
        self, v: Self | Numbers, side: Literal["left", "right"] = "left", sorter: Array | None = None
    ) -> Array:
        """Return `np.searchsorted(self, v, side, sorter)`, plain integers."""
        return TABLE[np.searchsorted](self, v, side, sorter)

    def round(self, decimals: int = 0) -> Self:
        """Return `np.round(self, decimals)`; the gradient is 0."""
        return TABLE[np.round](self, decimals)

    def clip(
        self,
        a_min: Self | Numbers | None = None,
        a_max: Self | Numbers | None = None,
        *,
        min: Self | Numbers | None = None,
        max: Self | Numbers | None = None,
    ) -> Self:
        """Return `np.clip(self, a_min, a_max)`, the bounds also called min and max."""
        return TABLE[np.clip](self, a_min, a_max, min=min, max=max)

    def dot(self, b: Self | Numbers) -> Self:
        """Return `np.dot(self, b)`."""
        return TABLE[np.dot](self, b)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        """Return `np.trace(self, offset, axis1, axis2)`."""
        return TABLE[np.trace](self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        """Return `np.diagonal(self, offset, axis1, axis2)`."""
        return TABLE[np.diagonal](self, offset, axis1, axis2)

    def repeat(self, repeats: int | Sequence[int] | Array, axis: int | None = None) -> Self:
        """Return `np.repeat(self, repeats, axis)`."""
        return TABLE[np.repeat](self, repeats, axis)

    def take(self, indices: Self | Numbers, axis: int | None = None) -> Self:
        """Return `np.take(self, indices, axis)`."""
        return TABLE[np.take](self, indices, axis)

    def copy(self) -> Self:
        """Return a Tensor of its own with the same values; the cotangent goes on to this one."""
        return TABLE[np.copy](self)

    def ravel(self, order: str = "C") -> Self:
        """Return the elements along one axis, the last index running fastest."""
        return TABLE[np.ravel](self, order)

    def flatten(self, order: str = "C") -> Self:
        """Return the elements along one axis, as `ravel` does: no Tensor can be written to."""
        return self.ravel(order)

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Self:
        """Return `np.squeeze(self, axis)`."""
        return TABLE[np.squeeze](self, axis)

    def reshape(self, *shape: SupportsIndex | Sequence[SupportsIndex], order: str = "C") -> Self:
        """Return `np.reshape(self, shape)`; the shape as one tuple or as several integers."""
        if order not in ("C", "A"):
            raise UnsupportedError(f"reshape: order must be 'C', the last index running fastest, got {order!r}")
        return TABLE[np.reshape](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int | Sequence[int] | None) -> Self:
        """Return `np.transpose(self, axes)`; no axes: reversed."""
        order = None if not axes else axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return TABLE[np.transpose](self, axes=order)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Return `np.swapaxes(self, axis1, axis2)`."""
        return TABLE[np.swapaxes](self, axis1, axis2)

    def astype(self, dtype: DTypeLike, *, copy: bool = True) -> Self:
        """Return `np.astype(self, dtype)`, recorded; the cotangent comes back in this tensor's dtype.

        `copy` makes no difference: no Tensor can be written to.
        """
        return TABLE[np.astype](self, dtype)

    @property
    def T(self) -> Self:  # noqa: N802 (NumPy's name)
        """The transpose: axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Self:  # noqa: N802 (NumPy's name)
        """The transposes of matrices in the last two axes."""
        return TABLE[np.matrix_transpose](self)


def _in_words(function: Function) -> str:
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
