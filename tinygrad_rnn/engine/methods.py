"""Operators and methods of a Tensor: each is its NumPy function, found in the table."""

from __future__ import annotations

import operator
from typing import Any, Self, cast

import numpy as np
from numpy.typing import DTypeLike

from .table import TABLE, Axis, Operand
from .tape import Array


class ArrayMethods:
    """What a Tensor shares with arrays: operators, and the methods that are NumPy functions too."""

    __slots__ = ()

    # -- operators: each is its NumPy function ----------------------------------------------------------------------

    def __add__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.add](self, other))

    def __radd__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.add](other, self))

    def __sub__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.subtract](self, other))

    def __rsub__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.subtract](other, self))

    def __mul__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.multiply](self, other))

    def __rmul__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.multiply](other, self))

    def __truediv__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.divide](self, other))

    def __rtruediv__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.divide](other, self))

    def __floordiv__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.floor_divide](self, other))

    def __rfloordiv__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.floor_divide](other, self))

    def __mod__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.remainder](self, other))

    def __rmod__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.remainder](other, self))

    def __divmod__(self, other: Operand) -> tuple[Self, Self]:
        return cast(tuple[Self, Self], TABLE[np.divmod](self, other))

    def __rdivmod__(self, other: Operand) -> tuple[Self, Self]:
        return cast(tuple[Self, Self], TABLE[np.divmod](other, self))

    def __pow__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.power](self, other))

    def __rpow__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.power](other, self))

    def __matmul__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.matmul](self, other))

    def __rmatmul__(self, other: Operand) -> Self:
        return cast(Self, TABLE[np.matmul](other, self))

    def __neg__(self) -> Self:
        return cast(Self, TABLE[np.negative](self))

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return cast(Self, TABLE[np.absolute](self))

    def __getitem__(self, key: Any) -> Self:
        return cast(Self, TABLE[operator.getitem](self, key))

    # Comparisons are piecewise constant: they give plain boolean arrays.
    def __lt__(self, other: Operand) -> Array:
        return cast(Array, TABLE[np.less](self, other))

    def __le__(self, other: Operand) -> Array:
        return cast(Array, TABLE[np.less_equal](self, other))

    def __gt__(self, other: Operand) -> Array:
        return cast(Array, TABLE[np.greater](self, other))

    def __ge__(self, other: Operand) -> Array:
        return cast(Array, TABLE[np.greater_equal](self, other))

    def __eq__(self, other: object) -> Array:  # type: ignore[override]  # elementwise, as in NumPy
        return cast(Array, TABLE[np.equal](self, other))

    def __ne__(self, other: object) -> Array:  # type: ignore[override]
        return cast(Array, TABLE[np.not_equal](self, other))

    __hash__ = object.__hash__

    # -- methods: NumPy's own ---------------------------------------------------------------------------------------

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return `np.sum(self, axis, keepdims=keepdims)`."""
        return cast(Self, TABLE[np.sum](self, axis=axis, keepdims=keepdims))

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return `np.mean(self, axis, keepdims=keepdims)`."""
        return cast(Self, TABLE[np.mean](self, axis=axis, keepdims=keepdims))

    def max(self, axis: Axis = None, keepdims: bool = False) -> Self:
        """Return `np.max(self, axis, keepdims=keepdims)`."""
        return cast(Self, TABLE[np.max](self, axis=axis, keepdims=keepdims))

    def round(self, decimals: int = 0) -> Self:
        """Return `np.round(self, decimals)`; the gradient is 0."""
        return cast(Self, TABLE[np.round](self, decimals))

    def reshape(self, *shape: Any) -> Self:
        """Return `np.reshape(self, shape)`; the shape as one tuple or as several integers."""
        return cast(Self, TABLE[np.reshape](self, shape[0] if len(shape) == 1 else shape))

    def transpose(self, *axes: Any) -> Self:
        """Return `np.transpose(self, axes)`; no axes: reversed."""
        order = None if not axes else axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return cast(Self, TABLE[np.transpose](self, axes=order))

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Return `np.swapaxes(self, axis1, axis2)`."""
        return cast(Self, TABLE[np.swapaxes](self, axis1, axis2))

    def astype(self, dtype: DTypeLike) -> Self:
        """Return `np.astype(self, dtype)`, recorded; the cotangent comes back in this tensor's dtype."""
        return cast(Self, TABLE[np.astype](self, dtype))

    @property
    def T(self) -> Self:  # noqa: N802 (NumPy's name)
        """The transpose: axes reversed."""
        return self.transpose()
