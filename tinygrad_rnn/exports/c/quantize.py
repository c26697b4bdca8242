"""Weights in 8 bits: a matrix as whole numbers from -127 to 127, and a scale for each of its rows or columns.

w = q * scale; the scale is the largest entry of the row or column over 127, so an entry is off by at most half a scale.
Activations stay floating point: a product x @ W is the sum over k of x[k] * q[k, n], times the scale of n.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...compiler.plans.instructions import Buffer, Slot
from ...engine.tape import Array
from .literals import is_real
from .schedule import Item, Kernel

_LEAST = 64  # entries; fewer are not worth a scale
_LARGEST = 127


@dataclass(frozen=True)
class Quantized:
    """A matrix in 8 bits.

    Attributes:
        values: int8, of the shape of the matrix.
        scales: of its rows (axis 0) or its columns (axis 1), in its dtype.
        axis: which of the two.
    """

    values: NDArray[np.int8]
    scales: Array
    axis: int

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.values.nbytes + self.scales.nbytes


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

    >>> made = quantize(np.array([[127.0, -1.0], [0.0, 0.5]]), axis=0)
    >>> made.values.tolist(), made.scales.tolist()
    ([[127, -1], [0, 127]], [1.0, 0.003937007874015748])
    """
    largest = np.abs(matrix).max(axis=1 - axis, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(matrix.dtype)
    values = np.clip(np.rint(matrix / scales), -_LARGEST, _LARGEST).astype(np.int8)
    return Quantized(values, scales.reshape(-1), axis)


def dequantized(matrix: Array, axis: int) -> Array:
    """Return the matrix that `quantize` stands for.

    >>> float(np.abs(dequantized(np.eye(3) * 0.3, 1) - np.eye(3) * 0.3).max()) < 1e-9
    True
    """
    made = quantize(matrix, axis)
    return np.asarray(made.values * np.expand_dims(made.scales, 1 - axis))


def _axes_of(kernel: Kernel) -> dict[int, int | None]:
    """Return by slot the axis of its matrix that has the scales, where a kernel can do with a matrix in 8 bits."""
    instruction = kernel.instruction
    name = instruction.operator.name
    if name == "matmul" and isinstance(instruction.inputs[1], Slot):
        slot = instruction.inputs[1]
        return {id(slot): _columns(slot)} if len(slot.shape) == 2 else {}
    if name == "take" and instruction.attrs["axis"] == 0 and isinstance(instruction.inputs[0], Slot):
        slot = instruction.inputs[0]
        return {id(slot): 0 if _is_matrix(slot) and slot.shape == _shape(slot) else None}
    return {}


def _columns(slot: Slot) -> int | None:
    """Return which axis of the matrix in memory the columns of an operand lie along; None if along neither."""
    if not _is_matrix(slot) or slot.shape[1] == 1:
        return None
    row, one = _shape(slot)[1] * slot.dtype.itemsize, slot.dtype.itemsize
    return {(row, one): 1, (one, row): 0}.get((slot.strides[0], slot.strides[1]))


def _is_matrix(slot: Slot) -> bool:
    constant = slot.buffer.constant
    return constant is not None and constant.ndim == 2 and constant.size >= _LEAST and is_real(constant.dtype)


def _shape(slot: Slot) -> tuple[int, ...]:
    assert slot.buffer.constant is not None
    return slot.buffer.constant.shape
