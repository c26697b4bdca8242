"""Conversions of a Tensor to numbers, text and arrays, in which no gradient is lost silently.

`item`, `tolist`, `data` and text ask for values, and get them. So does `float(x)`, but NumPy also calls it on its own
(`array.fill(x)`, `np.float64(x)`), and the two calls look alike. So it returns the number, with a `GradientWarning` if
a gradient could still be taken. `array[0] = x`, which is certainly a mistake, raises an error.
"""

from __future__ import annotations

import operator
import sys
from opcode import opmap
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DTypeError, GradientWarning, ShapeError, TraceError, UnsupportedError, warn
from .tape import Array, Node, context


class Conversions:
    """Conversions of a Tensor to values that are not Tensors."""

    __slots__ = ()

    _array: Array
    _node: Node | None

    def item(self, *index: int) -> Any:
        """Return the only element, or the one at an index, as a Python number.

        Raises:
            ShapeError: if there is not exactly one element, and no index.
            IndexError: if the index is out of range.
            TraceError: while a function is recorded by `compile`.
        """
        if not index and self._array.size != 1:
            raise ShapeError(
                f"Tensor.item: expected one element, got shape {self._array.shape}; use .data for the array"
            )
        return self._values().item(*index)

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers.

        Raises:
            TraceError: while a function is recorded by `compile`.
        """
        return self._values().tolist()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self._array.size != 1:
            raise ShapeError(
                f"format: the format {spec!r} is for a Tensor of one element, got shape {self._array.shape}; "
                "format the elements of x.tolist()"
            )
        return format(self.item(), spec)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self._number("float()", sys._getframe(1)))

    def __int__(self) -> int:
        return int(self._number("int()", sys._getframe(1)))

    def __complex__(self) -> complex:
        return complex(self._number("complex()", sys._getframe(1)))

    def __round__(self, digits: int | None = None) -> float:
        number = self._number("round()", sys._getframe(1))
        return round(number, digits)

    def __index__(self) -> int:
        if self._array.dtype.kind not in "biu":
            raise DTypeError(
                f"Tensor: expected an integer where an index or a size is wanted, got dtype {self._array.dtype} of "
                f"shape {self._array.shape}; use int(x.item())"
            )
        return operator.index(self.item())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        values = self._values()
        if self._may_need_gradient():
            raise UnsupportedError(
                f"np.asarray: turning a recorded Tensor of shape {values.shape} into an array would lose its gradient; "
                "join Tensors with stack([x, ...]), and take values to print or plot with x.item() or x.data"
            )
        return np.array(values, dtype=dtype, copy=copy)

    def _values(self) -> Array:
        if context().tracer is not None:
            name: str | None = getattr(self, "name", None)
            label = f" ({name})" if name else ""
            raise TraceError(
                f"Tensor.data{label}: the value of a Tensor of shape {self._array.shape} was read while compile() "
                "records the function; it would be frozen in the plan, whatever a later call brings. "
                "Write it with the functions of tinygrad_rnn (where() instead of if), or read the value outside"
            )
        return self._array

    def _may_need_gradient(self) -> bool:
        """Return whether a gradient can still be taken through this Tensor, if gradients are recorded."""
        return self._node is not None and not self._node.consumed and context().recording

    def _number(self, call: str, caller: FrameType) -> float:
        number: float = self.item()
        if not self._may_need_gradient() or _runs(caller, _TEXT):
            return number
        if _runs(caller, _STORE):
            raise UnsupportedError(
                "array[...] = tensor: writing a recorded Tensor into an array would lose its gradient; collect Tensors "
                "in a list and join them with stack(), or write x.item() if the number is all that you want"
            )
        warn(
            f"{call} of a recorded Tensor gives a number without its gradient (NumPy asks for it too, in array.fill(x) "
            "or np.float64(x), and math.sqrt(x) does); use x.item() for a number to print or keep, and np.sqrt(x) and "
            "its like to compute",
            GradientWarning,
        )
        return number


_STORE = frozenset(opmap[name] for name in ("STORE_SUBSCR", "STORE_SLICE") if name in opmap)
"""`array[0] = x`: the object written into is implemented in C, and asks x for a number."""
_TEXT = frozenset([opmap["BINARY_OP"]])
"""`"%.3f" % x`: of all operators only this one asks for a number, and makes text of it."""


def _runs(frame: FrameType, instructions: frozenset[int]) -> bool:
    """Return whether a Python frame is at one of these instructions, so that C code asks for the number."""
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] in instructions
