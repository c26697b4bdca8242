"""Operators of a Tensor: each is its NumPy function, found in the table."""

from __future__ import annotations

import operator
from typing import Self

import numpy as np

from .table import TABLE
from .tape import Array
from .types import Index, Numbers


class ArrayOperators:
    """The operators that a Tensor has in common with arrays."""

    __slots__ = ()

    def __add__(self, other: Self | Numbers) -> Self:
        return TABLE[np.add](self, other)

    def __radd__(self, other: Self | Numbers) -> Self:
        return TABLE[np.add](other, self)

    def __sub__(self, other: Self | Numbers) -> Self:
        return TABLE[np.subtract](self, other)

    def __rsub__(self, other: Self | Numbers) -> Self:
        return TABLE[np.subtract](other, self)

    def __mul__(self, other: Self | Numbers) -> Self:
        return TABLE[np.multiply](self, other)

    def __rmul__(self, other: Self | Numbers) -> Self:
        return TABLE[np.multiply](other, self)

    def __truediv__(self, other: Self | Numbers) -> Self:
        return TABLE[np.divide](self, other)

    def __rtruediv__(self, other: Self | Numbers) -> Self:
        return TABLE[np.divide](other, self)

    def __floordiv__(self, other: Self | Numbers) -> Self:
        return TABLE[np.floor_divide](self, other)

    def __rfloordiv__(self, other: Self | Numbers) -> Self:
        return TABLE[np.floor_divide](other, self)

    def __mod__(self, other: Self | Numbers) -> Self:
        return TABLE[np.remainder](self, other)

    def __rmod__(self, other: Self | Numbers) -> Self:
        return TABLE[np.remainder](other, self)

    def __divmod__(self, other: Self | Numbers) -> tuple[Self, Self]:
        return TABLE[np.divmod](self, other)

    def __rdivmod__(self, other: Self | Numbers) -> tuple[Self, Self]:
        return TABLE[np.divmod](other, self)

    def __pow__(self, other: Self | Numbers) -> Self:
        return TABLE[np.power](self, other)

    def __rpow__(self, other: Self | Numbers) -> Self:
        return TABLE[np.power](other, self)

    def __matmul__(self, other: Self | Numbers) -> Self:
        return TABLE[np.matmul](self, other)

    def __rmatmul__(self, other: Self | Numbers) -> Self:
        return TABLE[np.matmul](other, self)

    def __neg__(self) -> Self:
        return TABLE[np.negative](self)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return TABLE[np.absolute](self)

    def __getitem__(self, key: Index) -> Self:
        return TABLE[operator.getitem](self, key)

    # Comparisons are piecewise constant: they give plain boolean arrays.
    def __lt__(self, other: Self | Numbers) -> Array:
        return TABLE[np.less](self, other)

    def __le__(self, other: Self | Numbers) -> Array:
        return TABLE[np.less_equal](self, other)

    def __gt__(self, other: Self | Numbers) -> Array:
        return TABLE[np.greater](self, other)

    def __ge__(self, other: Self | Numbers) -> Array:
        return TABLE[np.greater_equal](self, other)

    def __eq__(self, other: object) -> Array:  # type: ignore[override]  # elementwise, as in NumPy
        if isinstance(other, str | bytes):
            return TABLE[np.zeros_like](self, dtype=bool)  # no number is a text
        return TABLE[np.equal](self, other)

    def __ne__(self, other: object) -> Array:  # type: ignore[override]
        if isinstance(other, str | bytes):
            return TABLE[np.ones_like](self, dtype=bool)
        return TABLE[np.not_equal](self, other)

    __hash__ = object.__hash__

    # Masks are arrays; in a compiled function they are Tensors, and are joined as arrays are.
    def __and__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_and](self, other)

    def __rand__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_and](other, self)

    def __or__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_or](self, other)

    def __ror__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_or](other, self)

    def __xor__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_xor](self, other)

    def __rxor__(self, other: Self | Numbers) -> Array:
        return TABLE[np.bitwise_xor](other, self)

    def __invert__(self) -> Array:
        return TABLE[np.invert](self)

    # Shifts of whole numbers likewise.
    def __lshift__(self, other: Self | Numbers) -> Array:
        return TABLE[np.left_shift](self, other)

    def __rlshift__(self, other: Self | Numbers) -> Array:
        return TABLE[np.left_shift](other, self)

    def __rshift__(self, other: Self | Numbers) -> Array:
        return TABLE[np.right_shift](self, other)

    def __rrshift__(self, other: Self | Numbers) -> Array:
        return TABLE[np.right_shift](other, self)
