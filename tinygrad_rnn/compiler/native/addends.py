"""Epilogues of products: x @ W + b becomes one record if the sum overwrites the product.

The addend is added while a tile of the result is in registers, which saves a pass over the result: over the logits of a
large vocabulary, for instance. It is rounded as in two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..plans.instructions import Slot
from .chains import Kernel
from .numbers import NUMBER
from .record import Operand, Record, flat

_MATMUL, _ADD = NUMBER["matmul"], NUMBER["add"]


def added(run: Sequence[Kernel]) -> list[Kernel]:
    """Join each product with the sum right after it if that overwrites it; all kernels have one record."""
    found: list[Kernel] = []
    for kernel in run:
        record = _joined(found[-1].records[0], kernel.records[0]) if found else None
        if record is None:
            found.append(kernel)
        else:
            found[-1] = Kernel((record,), (*found[-1].instructions, *kernel.instructions))
    return found


def _joined(product: Record, total: Record) -> Record | None:
    """Return the record of a product with the sum that follows as its epilogue, None if that is not possible."""
    if product.op != _MATMUL or total.op != _ADD or product.n[2] == 0 or len(product.operands) != 3:
        return None
    out = product.operands[0].slot
    result, *parts = (operand.slot for operand in total.operands)
    assert out is not None
    for part, more in (parts, parts[::-1]):
        if part is None or more is None or not (_same(part, out) and _same(part, result)):
            continue
        strides = _strides(more, product)
        if strides is not None and more.buffer is not out.buffer:
            return replace(product, operands=(*product.operands, Operand(more, strides)))
    return None


def _same(one: Slot, other: Slot | None) -> bool:
    """Return whether two slots are the same elements of memory; their shapes may differ by merged axes."""
    if other is None or one.buffer is not other.buffer or _plain(one) is None:
        return False
    first, second = ((slot.offset, slot.step_stride, slot.dtype, _plain(slot)) for slot in (one, other))
    return first == second


def _plain(slot: Slot) -> tuple[tuple[int, int], tuple[int, int]] | None:
    return flat(slot, len(slot.shape) - 1) if slot.shape else None


def _strides(more: Slot, product: Record) -> tuple[int, int] | None:
    """Return (row stride, column stride) of the addend of a product: (0, 1) for a row; None for another layout."""
    M, N, _ = product.n
    plain = _plain(more)
    if plain is None or more.dtype != product.dtype:
        return None
    (rows, columns), (stride, one) = plain
    if columns != N or (one != 1 and N > 1) or rows not in (1, M):
        return None
    return (stride if rows == M and M > 1 else 0, 1)
