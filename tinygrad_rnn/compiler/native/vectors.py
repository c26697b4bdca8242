"""Loops over vectors: a state of one stream has no rows to share, so workers share its columns if the matrix is large.

Each step then needs a wait, for the next product reads all of the state, so small matrices stay with one worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..plans.instructions import Loop, Slot
from .chains import Step
from .numbers import LAST_LOOP, NUMBER
from .record import Operand, Record

IN_LINES = 3
"""`split` of records whose n[0] is shared in whole lines of `LINE` elements, as in source/record.h."""

LINE = 16
STAYS = 2
"""n[3] of products with a matrix that is the same at all steps; 1, what fills up the sizes, says nothing."""
_LARGE = 48 << 10  # bytes of a matrix; reading one of them takes several times as long as a wait
_MATMUL = NUMBER["matmul"]


def border(record: Record, n: int, worker: int, workers: int) -> int:
    """Return where the part of a worker starts in the n rows of a record; for the number of workers, n."""
    at = n * worker // workers
    return at // LINE * LINE if record.split == IN_LINES and worker < workers else at


def share_vectors(steps: list[Step]) -> list[Step]:
    """Let workers share the vectors in the body of a loop if one of them is multiplied by a large matrix."""
    found = [_product(step.records[0]) if len(step.records) == 1 else None for step in steps]
    if not any(found):
        return steps
    shared = []
    for step, product in zip(steps, found, strict=True):
        record = product or (_vector(step.records[0]) if len(step.records) == 1 else None)
        shared.append(step if record is None else Step((record,), step.instructions))
    return shared


def note_matrices(steps: list[Step], loop: Loop) -> list[Step]:
    """Note which products of the body of a loop multiply by a matrix that is the same at all steps: n[3] is `STAYS`."""
    written = [*_written(steps, loop)]
    noted = []
    for step in steps:
        record = step.records[0]
        stays = record.op == _MATMUL and _stays(_matrix(record).slot, written)
        noted.append(Step((replace(record, n=(*record.n, STAYS)),), step.instructions) if stays else step)
    return noted


def matrices(steps: list[Step]) -> Iterator[Step]:
    """Yield for each matrix that `note_matrices` noted a call that reads it: workers may copy it before the loop."""
    for step in steps:
        record = step.records[0]
        if record.op == _MATMUL and record.n[3:] == (STAYS,):
            yield Step((replace(record, operands=(_matrix(record),), writes=()),), step.instructions)


def _matrix(record: Record) -> Operand:
    return record.operands[1 if record.split == IN_LINES else 2]


def _product(record: Record) -> Record | None:
    """Return vector @ large matrix as the product of the matrix's transpose and a column, whose rows are shared."""
    if record.op != _MATMUL:
        return None
    (M, N, K), (out, vector, matrix, *more) = record.n, record.operands
    (k, n), size = matrix.steps, record.dtype.itemsize
    if M != 1 or n != 1 or N < 2 * LINE or N * K * size < _LARGE:
        return None
    operands = [Operand(out.slot, (1, 1)), Operand(matrix.slot, (1, k))]
    operands.append(Operand(vector.slot, (vector.steps[1], 1), shared=False))
    operands += [Operand(one.slot, (1, 0)) for one in more]
    return Record(_MATMUL, record.dtype, tuple(operands), (N, 1, K), IN_LINES)


def _vector(record: Record) -> Record | None:
    """Return an elementwise record over one axis so that workers share it."""
    if record.op > LAST_LOOP or record.split > 1 or len(record.n) != 1 or record.n[0] < 2 * LINE:
        return None
    return replace(record, split=IN_LINES)


def _written(steps: Sequence[Step], loop: Loop) -> Iterator[tuple[object, int, int]]:
    """Yield (memory, first byte, byte after the last) of what is written in all steps of a loop."""
    for step in steps:
        for record in step.records:
            for number in record.writes:
                operand = record.operands[number]
                if operand.slot is not None and operand.block is None:
                    yield _extent(operand.slot, loop.steps)


def _extent(slot: Slot, turns: int = 1) -> tuple[object, int, int]:
    memory = None if slot.buffer.kind == "arena" else id(slot.buffer)
    start, (low, high), way = slot.offset + slot.buffer.offset, slot.extent(), (turns - 1) * slot.step_stride
    return memory, start + low + min(0, way), start + high + max(0, way)


def _stays(slot: Slot | None, written: Sequence[tuple[object, int, int]]) -> bool:
    """Return whether a matrix is the same at all steps."""
    assert slot is not None
    memory, start, stop = _extent(slot)
    return not slot.step_stride and not any(at == memory and low < stop and start < high for at, low, high in written)
