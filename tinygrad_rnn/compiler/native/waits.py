"""Barriers between workers, in the records of a program.

Workers split the rows of a call: the sequences of a batch, as a rule. As long as each of them reads only what it has
written itself they run on without synchronization. There is a barrier where one needs what another has written, or
writes where another still reads; this follows from the addresses alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .numbers import NUMBER
from .program import Program, Records, Repeated
from .sharing import Parts, Span, Touched, touched_after, touched_before, waits_within
from .vectors import IN_LINES, STAYS, border

_UNWRITTEN = ("input", "constant")  # kinds of read-only buffers, which need no barriers
_LOOP, _CHAIN, _MATMUL = (NUMBER[name] for name in ("loop", "chain", "matmul"))
Turn = tuple[int, bool]
"""The number of steps of a loop, and whether they run in reverse."""


def place_waits(program: Program, workers: int) -> None:
    """Set `wait` of source/record.h in all records of a program."""
    if workers == 1:
        return
    fixed = {number for number, buffer in enumerate(program.buffers, 1) if buffer.kind in _UNWRITTEN}
    for piece in program.pieces:
        if isinstance(piece, Records):
            _Rows(piece, workers, fixed).place()
        elif isinstance(piece, Repeated):
            for part in piece.pieces:
                if isinstance(part, Records):
                    _Rows(part, workers, fixed).place_within((piece.steps, piece.reverse))


class _Rows:
    """Records, as lists of numbers; `fixed`: numbers of memories that nobody writes to."""

    def __init__(self, records: Records, workers: int, fixed: set[int]) -> None:
        self._wait, self._workers, self._fixed = records.array["wait"], workers, fixed
        self._op, self._split, self._n, self._base, self._step_stride = (
            records.array[name].tolist() for name in ("op", "split", "n", "base", "step_stride")
        )
        self._reached = [*zip(records.extents, records.shares, strict=True)]
        self._row_stride = records.array["s"][:, :, 0].tolist()

    def place(self) -> None:
        """Set the barriers of records that the library runs once."""
        wait, touched = self._wait, Touched(self._workers)
        for at in self._heads(0, len(wait)):
            if self._op[at] == _LOOP:
                self._place_loop(at, touched)
                continue
            spans = self._spans(at)
            wait[at] = wait[at] or touched.must_wait(spans)
            if wait[at]:
                touched.clear()
            touched.add(spans)

    def place_within(self, turn: Turn) -> None:
        """Set the barriers of records that are a part of a loop that Python runs."""
        heads = [*self._heads(0, len(self._op))]
        self._wait[heads] = waits_within([self._spans(at, turn) for at in heads], turn[0], False)

    def _place_loop(self, loop: int, touched: Touched) -> None:
        """Set the barriers of a loop; `touched` has what workers accessed before it, and gets what they do in it."""
        steps, size, reverse, _ = self._n[loop]
        turn, heads = (steps, bool(reverse)), [*self._heads(loop + 1, loop + 1 + size)]
        spans = [self._spans(at, turn) for at in heads]
        waits = waits_within(spans, steps)
        ahead = [self._spans(at, turn, matrix) for at in heads if (matrix := self._matrix(at)) is not None]
        before = touched_before([*ahead, *spans], [False] * len(ahead) + waits, steps)
        wait = touched.must_wait(before)
        if wait or any(waits):
            touched.clear()
        touched.add(touched_after(spans, waits, steps))
        self._wait[[loop, *heads]] = [wait, *waits]

    def _heads(self, start: int, stop: int) -> Iterator[int]:
        """Yield the rows of kernels and loops, without those of the records in them."""
        while start < stop:
            yield start
            start += 1 + (self._n[start][1] if self._op[start] in (_LOOP, _CHAIN) else 0)

    def _matrix(self, at: int) -> int | None:
        """Return the operand of a product that is a loop-invariant matrix: workers may copy it before the loop."""
        if self._op[at] != _MATMUL or self._n[at][3] != STAYS:
            return None
        return 1 if self._split[at] == IN_LINES else 2

    def _spans(self, head: int, turn: Turn | None = None, only: int | None = None) -> Parts:
        """Return the spans that each worker accesses in a kernel; in a loop, at the first iteration.

        With `only`, those of one operand, which is read.
        """
        found: list[list[Span]] = [[] for _ in range(self._workers)]
        n = self._n[head][0]
        for at in range(head + 1, head + 1 + self._n[head][1]) if self._op[head] == _CHAIN else (head,):
            parts = self._parts(self._split[at], n)
            for number, ((start, stop), (size, writes)) in enumerate(zip(*self._reached[at], strict=False)):
                base = self._base[at][number]
                if base < 0 or start == stop or base in self._fixed or only not in (None, number):
                    continue
                by, step_stride = max(0, self._row_stride[at][number] * size), 0
                if turn is not None and (step_stride := self._step_stride[at][number]):
                    start, stop, step_stride = _first(start, stop, step_stride, turn)
                for worker, lo, hi in parts:
                    place = base, start + lo * by, stop - (n - hi) * by, writes and only is None, step_stride
                    found[worker].append(place)
        return found

    def _parts(self, split: int, n: int) -> list[tuple[int, int, int]]:
        """Return (worker, first row, row after the last) of those that do a part of a record."""
        if split not in (1, IN_LINES):
            return [(worker, 0, n) for worker in range(self._workers if split else 1)]
        ends = [border(split, n, worker, self._workers) for worker in range(self._workers + 1)]
        return [(worker, lo, hi) for worker, (lo, hi) in enumerate(pairwise(ends)) if lo != hi]


def _first(start: int, stop: int, step_stride: int, turn: Turn) -> tuple[int, int, int]:
    """Return what is accessed in the first iteration, given that of all, and the stride in the order of execution."""
    steps, reverse = turn
    step_stride = -step_stride if reverse else step_stride
    way = (steps - 1) * step_stride
    return (start, stop - way, step_stride) if way > 0 else (start - way, stop, step_stride)
