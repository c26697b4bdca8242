"""Loops at batch size 1: the state has one row, so workers share its columns where it is multiplied by a large matrix.

The next product reads all of the state, so each step needs a barrier. With a small matrix one worker takes less time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..plans.instructions import Loop, Slot
from .chains import Kernel
from .numbers import LAST_LOOP, NUMBER
from .record import Operand, Record

IN_LINES = 3
"""`split` of records whose n[0] is shared in multiples of `LINE` elements, as in source/record.h."""

LINE = 16
STAYS = 2
"""n[3] of products with a loop-invariant matrix; the default, 1, means that it is not known to be one."""
_LARGE = 48 << 10  # bytes of a matrix; reading that many takes several times as long as a barrier
_MATMUL = NUMBER["matmul"]


def border(split: int, n: int, worker: int, workers: int) -> int:
    """Return the first of the n rows of a record that a worker does; n for worker == workers."""
    at = n * worker // workers
    return at // LINE * LINE if split == IN_LINES and worker < workers else at


def share_vectors(kernels: list[Kernel]) -> list[Kernel]:
    """Split vectors in the body of a loop among workers if one of them is multiplied by a large matrix."""
    products = [_product(kernel.records[0]) for kernel in kernels]
    if not any(products):
        return kernels
    found = [product or _vector(kernel) for product, kernel in zip(products, kernels, strict=True)]
    pairs = zip(found, kernels, strict=True)
    return [kernel if record is None else Kernel((record,), kernel.instructions) for record, kernel in pairs]


def note_matrices(kernels: list[Kernel], loop: Loop) -> list[Kernel]:
    """Mark the products in the body of a loop whose matrix is loop-invariant: n[3] is `STAYS`."""
    written = [*_written(kernels, loop)]
    noted = []
    for kernel in kernels:
        record = kernel.records[0]
        stays = record.op == _MATMUL and _stays(_matrix(record).slot, written)
        noted.append(Kernel((replace(record, n=(*record.n, STAYS)),), kernel.instructions) if stays else kernel)
    return noted


def _matrix(record: Record) -> Operand:
    return record.operands[1 if record.split == IN_LINES else 2]


def _product(record: Record) -> Record | None:
    """Return vector @ large matrix as matrix.T @ column, whose rows workers share; None for another product."""
    if record.op != _MATMUL:
        return None
    (M, N, K), (out, vector, matrix, *more) = record.n, record.operands
    (k, n), size = matrix.strides, record.dtype.itemsize
    if M != 1 or n != 1 or N < 2 * LINE or N * K * size < _LARGE:
        return None
    operands = [Operand(out.slot, (1, 1)), Operand(matrix.slot, (1, k))]
    operands.append(Operand(vector.slot, (vector.strides[1], 1), shared=False))
    operands += [Operand(one.slot, (1, 0)) for one in more]
    return Record(_MATMUL, record.dtype, tuple(operands), (N, 1, K), IN_LINES)


def _vector(kernel: Kernel) -> Record | None:
    """Return a long elementwise record over one axis, split among workers; None for another kernel."""
    record = kernel.records[0]
    if len(kernel.records) > 1 or record.op > LAST_LOOP or record.split > 1:
        return None
    return replace(record, split=IN_LINES) if len(record.n) == 1 and record.n[0] >= 2 * LINE else None


def _written(kernels: Sequence[Kernel], loop: Loop) -> Iterator[tuple[object, int, int]]:
    """Yield (memory, first byte, byte after the last) of what a loop writes, over all its steps."""
    for kernel in kernels:
        for record in kernel.records:
            for number in record.writes:
                operand = record.operands[number]
                if operand.slot is not None and operand.block is None:
                    yield _extent(operand.slot, loop.steps)


def _extent(slot: Slot, steps: int = 1) -> tuple[object, int, int]:
    memory = None if slot.buffer.kind == "arena" else id(slot.buffer)
    start, (low, high), way = slot.offset + slot.buffer.offset, slot.extent(), (steps - 1) * slot.step_stride
    return memory, start + low + min(0, way), start + high + max(0, way)


def _stays(slot: Slot | None, written: Sequence[tuple[object, int, int]]) -> bool:
    """Return whether a matrix is loop-invariant: it does not move, and the loop does not write there."""
    assert slot is not None
    memory, start, stop = _extent(slot)
    return not slot.step_stride and not any(at == memory and low < stop and start < high for at, low, high in written)
