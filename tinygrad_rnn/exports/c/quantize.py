"""Weights in 8 bits: a matrix as whole numbers from -127 to 127, and a scale for each of its rows or columns.

w = q * scale; the scale is the largest entry of the row or column over 127, so an entry is off by at most half a scale.
In a product x @ W each row of x is rounded to whole numbers of 16 bits, with a scale of its own, which its largest
entry gives it at each call: (x @ W)[n] = scale of x * scale of n * the sum over k of x[k] * q[k, n], a sum of whole
numbers in 32 bits. So the entries of x are off by at most 1/65,534 of the largest one up to K = 516, and by more in
longer sums.
Everything else stays floating point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...compiler.plans.instructions import Buffer, Slot
from ...engine.tape import Array
from .literals import is_real
from .places import Ref
from .schedule import Item, Kernel

_LEAST = 64  # entries; fewer are not worth a scale
_LARGEST = 127


def largest_whole(K: int) -> int:
    """Return the largest number in 16 bits whose products with K numbers in 8 bits add up to no more than 32 bits hold.

    >>> largest_whole(32), largest_whole(1024)
    (32767, 16513)
    """
    return min(2**15 - 1, (2**31 - 1) // (_LARGEST * K))


@dataclass(frozen=True)
class Quantized:
    """A matrix in 8 bits.

    Attributes:
        values: int8; the matrix (axis 0) or its transpose (axis 1), so that what has one scale lies in one piece.
        scales: of the rows of `values`, in the dtype of the matrix.
        axis: which of the axes of the matrix the scales belong to.
    """

    values: NDArray[np.int8]
    scales: Array
    axis: int


@dataclass(frozen=True)
class Small:
    """Where a matrix in 8 bits lies: the arrays in C, and where it starts there."""

    matrix: Quantized
    values: tuple[str, int]
    scales: tuple[str, int]

    def columns(self, slot: Slot) -> tuple[Ref, Ref]:
        """Return what a product takes as its right operand: elements by (k, n), and the scales by n."""
        assert slot.buffer.constant is not None
        place = divmod(slot.offset // slot.dtype.itemsize, slot.buffer.constant.shape[1])
        row, column = place[:: -1 if self.matrix.axis else 1]
        width = self.matrix.values.shape[1]
        base, start = self.values
        return Ref(base, np.dtype(np.int8), start + row * width + column, (1, width)), self.scale(slot, row)

    def scale(self, slot: Slot, first: int = 0) -> Ref:
        """Return the scales from one on."""
        base, start = self.scales
        return Ref(base, slot.dtype, start + first, (1,))


def quantized(items: Iterable[Item]) -> dict[Buffer, Quantized]:
    """Return in 8 bits the constant matrices that are only multiplied with from the left, or looked up in by row."""
    axes: dict[Buffer, set[int | None]] = {}
    for item in items:
        by_product: dict[int, int | None] = {}
        if isinstance(item, Kernel):
            by_product = _axes_of(item)
        for slot in item.slots():
            if slot.buffer.constant is not None:
                axes.setdefault(slot.buffer, set()).add(by_product.get(id(slot)))
    found = {}
    for buffer, ways in axes.items():
        (way, *others) = ways
        if way is not None and not others and buffer.constant is not None:
            found[buffer] = quantize(buffer.constant, way)
    return found


def quantize(matrix: Array, axis: int) -> Quantized:
    """Return a matrix in 8 bits, with a scale for each row (axis 0) or each column (axis 1).

    >>> made = quantize(np.array([[127.0, -1.0], [0.0, 0.5]]), axis=1)
    >>> made.values.tolist(), made.scales.tolist()
    ([[127, 0], [-127, 64]], [1.0, 0.007874015748031496])
    """
    rows = matrix.T if axis else matrix
    largest = np.abs(rows).max(axis=1)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(matrix.dtype)
    values = np.clip(np.rint(rows / scales[:, None]), -_LARGEST, _LARGEST).astype(np.int8)
    return Quantized(values, scales, axis)


def _axes_of(kernel: Kernel) -> dict[int, int | None]:
    """Return by slot the axis of its matrix that has the scales, where a kernel can do with a matrix in 8 bits."""
    instruction = kernel.instruction
    name = instruction.operator.name
    if name == "matmul" and all(isinstance(one, Slot) for one in instruction.inputs):
        x, slot = instruction.inputs
        fits = len(slot.shape) == 2 and x.dtype == slot.dtype and x.buffer.constant is None
        return {id(slot): _columns(slot)} if fits else {}
    if name == "take" and instruction.attrs["axis"] == 0 and isinstance(instruction.inputs[0], Slot):
        slot = instruction.inputs[0]
        return {id(slot): 0 if _is_matrix(slot) and slot.shape == _shape(slot) else None}
    return {}


def _columns(slot: Slot) -> int | None:
    """Return which axis of the matrix in memory the columns of an operand lie along; None if along neither."""
    if not _is_matrix(slot) or slot.shape[1] == 1 or slot.step_stride:
        return None
    row, one = _shape(slot)[1] * slot.dtype.itemsize, slot.dtype.itemsize
    return {(row, one): 1, (one, row): 0}.get((slot.strides[0], slot.strides[1]))


def _is_matrix(slot: Slot) -> bool:
    constant = slot.buffer.constant
    return constant is not None and constant.ndim == 2 and constant.size >= _LEAST and is_real(constant.dtype)


def _shape(slot: Slot) -> tuple[int, ...]:
    assert slot.buffer.constant is not None
    return slot.buffer.constant.shape
