"""The binding of calls to memory; the calls of a loop that Python runs are bound at its first replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...engine.tape import Array
from ..native.program import Piece, Records, Repeated
from ..native.workers import Replay
from ..plans.instructions import Loop, Slot
from ..plans.plan import Plan

BoundCall = tuple[Callable[..., object], tuple[object, ...]]
"""A function and what it is called with."""


def pieces_of(plan: Plan) -> list[Piece]:
    """Return a plan as pieces that are all done in Python."""
    found: list[Piece] = []
    number = 0
    for part in plan.instructions:
        if isinstance(part, Loop):
            numbers: list[Records | int] = [*range(number, number + len(part.instructions))]
            found.append(Repeated(numbers, part.steps, part.reverse))
            number += len(numbers)
        else:
            found.append(number)
            number += 1
    return found


class Binding:
    """The binding of pieces of a plan to memory. It keeps no reference to the calls that it returns.

    Args:
        place: returns the array of a slot.
        call: returns an instruction, by number, as a call, given a function from its slots to arrays.
        bases: addresses of the library's buffers, if there are records among the pieces.
        threads: workers of the library.
        counted: context in which calls are bound during a replay; see `Memory.counted`.
    """

    def __init__(
        self,
        place: Callable[[Slot], Array],
        call: Callable[[int, Callable[[object], object]], BoundCall],
        bases: NDArray[np.int64] | None,
        threads: int,
        counted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._place, self._call, self._bases, self._threads, self._counted = place, call, bases, threads, counted
        self._fixed: dict[int, Array] = {}  # by slot: arrays that lie at the same place at each step
        self._replays: dict[int, Replay] = {}  # by records

    def bound(self, pieces: Sequence[Piece], t: int = 0) -> list[BoundCall]:
        """Return the calls of pieces, at a step of the loop around them."""
        # By slot: an operand that is also the result is the same object, which NumPy notices at once.
        moved: dict[int, Array] = {}

        def operand(part: object) -> object:
            if not isinstance(part, Slot) or part.dtype == object:
                return part
            arrays = moved if part.step_stride else self._fixed
            array = arrays.get(id(part))
            if array is None:
                array = arrays[id(part)] = self._place(part.at(t))
            return array

        found: list[BoundCall] = []
        for piece in pieces:
            if isinstance(piece, Repeated):
                found.append((Repeat(piece, partial(self.bound, piece.pieces), self._counted), ()))
            elif isinstance(piece, Records):
                found.append((self._replay(piece), (t,)))
            else:
                found.append(self._call(piece, operand))
        return found

    def _replay(self, records: Records) -> Replay:
        if id(records) not in self._replays:
            assert self._bases is not None
            self._replays[id(records)] = Replay(records, self._bases, self._threads)
        return self._replays[id(records)]


class Repeat:
    """A loop that Python runs; a call of it does all its steps.

    Args:
        loop: what is done at each step.
        bind: returns the calls of a step.
        counted: as in `Binding`.
    """

    def __init__(
        self,
        loop: Repeated,
        bind: Callable[[int], list[BoundCall]],
        counted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._loop, self._bind, self._counted = loop, bind, counted
        self._steps: list[list[BoundCall]] = []

    def __call__(self) -> None:
        """Run all steps."""
        for bound in self.steps():
            for function, operands in bound:
                function(*operands)

    def steps(self) -> list[list[BoundCall]]:
        """Return the calls of each step, in the order in which they are done."""
        if not self._steps:
            with self._counted():
                self._steps = list(map(self._bind, self._loop.order()))
        return self._steps


def timed(pieces: Sequence[Piece], bound: Sequence[BoundCall]) -> Iterator[tuple[int, float]]:
    """Replay once; yield (number of an instruction, seconds), those of a loop at each step."""
    for piece, (function, operands) in zip(pieces, bound, strict=True):
        if isinstance(function, Repeat):
            assert isinstance(piece, Repeated)
            for step in function.steps():
                yield from timed(piece.pieces, step)
        elif isinstance(function, Replay):
            yield from function.seconds(*cast("tuple[int]", operands))
        else:
            assert isinstance(piece, int)
            start = time.perf_counter()
            function(*operands)
            yield piece, time.perf_counter() - start
