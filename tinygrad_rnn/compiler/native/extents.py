"""Bounds checks of records when they are encoded, so that a wrong shape cannot make C read or write elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from ..ir.arrays import Shape
from ..plans.instructions import extent
from .numbers import NAMES
from .record import Record

_Axes = list[tuple[int, int]]
"""(stride in elements, length) of each axis along which a call walks over an operand."""

_Walk = Callable[[Sequence[int], Sequence[int]], _Axes]
"""Returns the axes, given the sizes of a call (n) and the strides of an operand (s)."""


def _rows(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], n[0]), (1, n[1])]


def _pairs(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], n[0]), (s[1], n[1])]


def _column(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], n[0])]


def _line(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(1, n[0])]


def _one(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return []


def _ids(n: Sequence[int], s: Sequence[int]) -> _Axes:
    return [(s[0], -(-n[0] // n[2])), (s[1], min(n[2], n[0]))]


_WALKS: dict[str, tuple[_Walk, ...]] = {
    "matmul": (_rows, lambda n, s: [(s[0], n[0]), (s[1], n[2])], lambda n, s: [(s[0], n[2]), (s[1], n[1])], _rows),
    "sum_rows": (lambda n, s: [(1, n[1])], _rows),
    "sum_middle": (lambda n, s: [(s[0], n[0]), (1, n[1])], lambda n, s: [(s[0], n[0]), (s[1], n[2]), (1, n[1])]),
    "sum_along": (_column, _rows),
    "take": (_rows, lambda n, s: [(s[0], n[3]), (1, n[1])], _ids),
    "take_back": (lambda n, s: [(1, n[3] * n[1])], _rows, _ids),
    "find_equal": (_line, lambda n, s: [(1, n[1])], _ids),
    "add_equal": (_rows, _rows, _line),
    "subtract_rows": (lambda n, s: [(s[0], n[2]), (1, n[1])], _rows, _line),
    "loss_and_gradient": (_rows, _rows, _ids, _line),
    "log_softmax": (_rows, _rows),
    "logsumexp": (_column, _rows),
    "mean_nats": (_one, _line, _ids),
    **dict.fromkeys(("convert", "from_whole", "to_whole"), (_pairs, _pairs)),
}
"""How each operation that is not elementwise walks over its operands (result, A, B, C) in C."""


def check_extents(record: Record, steps: int = 1) -> list[tuple[int, int]]:
    """Return (first byte, byte after the last) of its buffer that each operand reaches, (0, 0) for nothing.

    A record that reaches beyond the array of an operand is refused, and an array that lies outside its buffer.

    Args:
        record: the record.
        steps: of the loop around it; the first and the last one are checked.

    Raises:
        RuntimeError: if it does: a pass or the plan has made a wrong shape.
    """
    walks = _WALKS.get(NAMES[record.op])
    found = [(0, 0)] * len(record.operands)
    for number, operand in enumerate(record.operands):
        slot = operand.slot
        if slot is None:
            continue
        walk = None if walks is None else walks[number]
        reach = _reach(walk, record.n, operand.strides, slot.shape, slot.strides, slot.dtype.itemsize)
        way = (steps - 1) * slot.step_stride
        first, last = (slot.offset, slot.offset + way) if way > 0 else (slot.offset + way, slot.offset)
        if reach:
            found[number] = first + reach[0], last + reach[1]
        if reach is None or found[number][0] < 0 or found[number][1] > slot.buffer.nbytes:
            raise RuntimeError(
                f"compile: operand {number} of {NAMES[record.op]} over {record.n} would reach beyond its array of "
                f"shape {slot.shape} and strides {slot.strides} at byte {slot.offset} of {slot.buffer.nbytes}"
                + (f", or {slot.step_stride} bytes further at each of {steps} steps" if slot.step_stride else "")
                + "; a pass, or the plan, has made a wrong shape: please report it"
            )
    return found


@lru_cache(maxsize=1024)
def _reach(
    walk: _Walk | None,
    n: Sequence[int],
    s: Sequence[int],
    shape: Shape,
    strides: Shape,
    itemsize: int,
) -> tuple[int, ...] | None:
    """Return the extent of a slot; () if the walk has no elements, None if it leaves the slot.

    Without a walk the record is elementwise: axis k has length n[k] and stride s[k].
    """
    first, last = 0, itemsize
    for stride, length in walk(n, s) if walk else zip(s, n, strict=False):
        if length == 0:
            return ()
        if stride > 0:
            last += stride * (length - 1) * itemsize
        else:
            first += stride * (length - 1) * itemsize
    low, high = extent(shape, strides, itemsize)
    return (low, high) if low <= first and last <= high else None
