"""What memory a record reaches: checked when a table is made, so that no wrong shape reads or writes elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from .records import NAME, Operand, Record

_Axes = list[tuple[int, int]]
"""(step in elements, length) of each axis along which a call walks over an operand."""

_Walk = Callable[[Sequence[int], Sequence[int]], _Axes]
"""From the sizes of a call and the steps of an operand."""


def _rows(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], n[0]), (1, n[1])]


def _column(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], n[0])]


def _line(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(1, n[0])]


def _one(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return []


def _ids(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], -(-n[0] // n[2])), (s[1], min(n[2], n[0]))]


_WALKS: dict[str, tuple[_Walk, ...]] = {
    "matmul": (_rows, lambda n, s: [(s[0], n[0]), (s[1], n[2])], lambda n, s: [(s[0], n[2]), (s[1], n[1])]),
    "sum_rows": (lambda n, s: [(1, n[1])], _rows),
    "sum_along": (_column, _rows),
    "take": (_rows, lambda n, s: [(s[0], n[3]), (1, n[1])], _ids),
    "take_back": (lambda n, s: [(1, n[3] * n[1])], _rows, _ids),
    "loss": (_rows, _rows, _ids, _line),
    "mean_nats": (_one, _line, _ids),
    "convert": (_line, _line),
}
"""How each call that is not elementwise walks over its operands (result, A, B, C), as source/kernels.h does it."""


def check_extents(record: Record, steps: int = 1) -> None:
    """Refuse a record that reaches beyond an operand, or one whose operand lies outside its memory.

    Args:
        record: the record.
        steps: of the loop that it is done in; it is checked at the first and the last.

    Raises:
        RuntimeError: if it does: the plan gives a wrong shape.
    """
    walks = _WALKS.get(NAME[record.op])
    for number, operand in enumerate(record.operands):
        if operand.slot is None:
            continue
        if not _inside(operand, _reach(walks and walks[number], record.n, operand.steps), steps):
            slot = operand.slot
            raise RuntimeError(
                f"compile: operand {number} of {NAME[record.op]} over {record.n} would reach beyond its array of shape "
                f"{slot.shape} and strides {slot.strides} at byte {slot.offset} of {slot.buffer.nbytes}"
                + (f", or {slot.turn} bytes further at each of {steps} steps" if slot.turn else "")
                + "; a pass, or the plan, has made a wrong shape: please report it"
            )


@lru_cache(maxsize=1024)
def _reach(walk: _Walk | None, n: Sequence[int], steps: Sequence[int]) -> tuple[int, int] | None:
    """Return (first, last) element that a walk comes to, counted from where it starts; None if it comes to none."""
    first = last = 0
    for step, length in walk(n, steps) if walk else zip(steps, n, strict=False):
        if length == 0:
            return None
        if step > 0:
            last += step * (length - 1)
        else:
            first += step * (length - 1)
    return first, last


def _inside(operand: Operand, reach: tuple[int, int] | None, steps: int) -> bool:
    """Return whether a walk stays within its slot, and the slot within its buffer at every step."""
    slot = operand.slot
    assert slot is not None
    if reach is None:
        return True
    size = slot.dtype.itemsize
    low, high = slot.extent()
    way = (steps - 1) * slot.turn
    return (
        low <= reach[0] * size
        and (reach[1] + 1) * size <= high
        and slot.offset + min(0, way) + low >= 0
        and slot.offset + max(0, way) + high <= slot.buffer.nbytes
    )
