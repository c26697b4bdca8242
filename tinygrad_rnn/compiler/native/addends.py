"""Products that add something: x @ W + b, where the sum overwrites the product, is one record.

The sum is made of a tile while it is in registers, so it is rounded as two calls would round it, and a pass over the
result is saved: over the logits of a large vocabulary, for instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..plans.instructions import Slot
from .chains import Step
from .numbers import NUMBER
from .record import Operand, Record, flat

_MATMUL, _ADD = NUMBER["matmul"], NUMBER["add"]


def added(run: Sequence[Step]) -> Iterator[Step]:
    """Join each product with a sum after it that overwrites it."""
    waiting: Step | None = None
    for step in run:
        if waiting is not None:
            record = _joined(waiting.records[0], step.records)
            if record is not None:
                yield Step((record,), (*waiting.instructions, *step.instructions))
                waiting = None
                continue
            yield waiting
            waiting = None
        if len(step.records) == 1 and step.records[0].op == _MATMUL:
            waiting = step
        else:
            yield step
    if waiting is not None:
        yield waiting


def _joined(product: Record, following: Sequence[Record]) -> Record | None:
    """Return the record of a product and of the sum that follows it, None if they do not belong together."""
    out, K = product.operands[0], product.n[2]
    if len(following) != 1 or following[0].op != _ADD or K == 0 or len(product.operands) != 3:
        return None
    total, *parts = (operand.slot for operand in following[0].operands)
    assert out.slot is not None
    for part, more in (parts, parts[::-1]):
        if part is None or more is None or not (_same(part, out.slot) and _same(part, total)):
            continue
        steps = _steps(more, product)
        if steps is not None and more.buffer is not out.slot.buffer:
            return replace(product, operands=(*product.operands, Operand(more, steps)))
    return None


def _same(one: Slot, other: Slot | None) -> bool:
    """Return whether two slots are the same numbers; their shapes may differ by axes that are one."""
    if other is None or one.buffer is not other.buffer or _plain(one) is None:
        return False
    first, second = ((slot.offset, slot.step_stride, slot.dtype, _plain(slot)) for slot in (one, other))
    return first == second


def _plain(slot: Slot) -> tuple[tuple[int, int], tuple[int, int]] | None:
    return flat(slot, len(slot.shape) - 1) if slot.shape else None


def _steps(more: Slot, product: Record) -> tuple[int, int] | None:
    """Return the steps of what is added along the rows and the columns of a product: of a row, 0 and 1."""
    M, N, _ = product.n
    plain = _plain(more)
    if plain is None or more.dtype != product.dtype:
        return None
    (rows, columns), (step, one) = plain
    if columns != N or (one != 1 and N > 1) or rows not in (1, M):
        return None
    return (step if rows == M and M > 1 else 0, 1)
