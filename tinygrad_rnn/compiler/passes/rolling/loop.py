"""A loop that was found among calls: the calls of one step, and the values of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .numbering import Node, Numbering


class Series(Protocol):
    """Values in a row.

    Attributes:
        length: how many there are.
        base: numbers of what it is made of, where it is not made by a loop.
    """

    length: int
    base: tuple[int, ...]

    def element(self, index: int) -> int | None:
        """Return the number of one of them; None outside of 0 .. length - 1."""


class Invariant(NamedTuple):
    """An operand that is the same at each step."""

    number: int


class Local(NamedTuple):
    """An operand that the same step makes: a result of the node in a slot."""

    slot: int
    out: int


class Carried(NamedTuple):
    """An operand that an earlier step made, `lag` steps before."""

    slot: int
    out: int
    lag: int


class Affine(NamedTuple):
    """An operand that is element `start + step * m` of a series, at the m-th step that is taken."""

    series: Series
    start: int
    step: int

    def at(self, step: int) -> int | None:
        """Return the number of the element at a step."""
        return self.series.element(self.start + self.step * step)


Read = Invariant | Local | Carried | Affine

Key = tuple[int, int, int]
"""A result of a slot, some steps before: (slot, index, lag)."""


class Rolled:
    """A loop.

    Attributes:
        nodes: of one step, in its slots.
        reads: of each slot, what its operands are.
        stands: of a slot that needs no call in the loop (a slice, or what is the same at each step) what stands for it.
        values: for each step that is taken, first to last, for each slot, the numbers of its results.
        lags: of each result that later steps read, (slot, index), how many steps later at most.
        init: number of what (slot, index, lag) is before the first step; lag 1 is the step just before.
        reverse: whether time goes backward: the first step that is taken is the last in the order of time.
        others: for a slice, others that are the same values at the steps that were looked at.
    """

    def __init__(self, nodes: list[Node], reads: list[list[Read]], stands: dict[int, Read]) -> None:
        self.nodes, self.reads, self.stands = nodes, reads, stands
        self.values: list[list[tuple[int, ...]]] = []
        self.lags: dict[tuple[int, int], int] = {}
        self.init: dict[Key, int] = {}
        self.reverse = False
        self.others: dict[Affine, list[Affine]] = {}
        for read in (read for some in reads for read in some):
            if isinstance(read, Carried):
                key = read.slot, read.out
                self.lags[key] = max(self.lags.get(key, 0), read.lag)
        self.drawn = any(not node.call.operator.pure for node in nodes)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.values)

    @property
    def place(self) -> int:
        """Place in the line of calls: that of a draw, or of the first call of a step."""
        return next((node.place for node in self.nodes if not node.call.operator.pure), self.nodes[0].place)

    def time(self, step: int) -> int:
        """Return the place in time of a step that is taken, or the step that is taken at a time."""
        return self.steps - 1 - step if self.reverse else step

    def past(self, step: int, slot: int, index: int) -> int:
        """Return the number of a result of a step, or of what stands for it before the first step."""
        return self.values[step][slot][index] if step >= 0 else self.init[slot, index, -step]

    def computed(self) -> Iterator[int]:
        """Yield the slots that the loop computes."""
        return (slot for slot in range(len(self.nodes)) if slot not in self.stands)

    def inputs(self) -> Iterator[Invariant | Affine]:
        """Yield what it reads from outside, apart from what it starts with."""
        for read in (*(read for slot in self.computed() for read in self.reads[slot]), *self.stands.values()):
            if isinstance(read, Invariant | Affine):
                yield read

    def step(self, numbering: Numbering, step: int, init: dict[Key, int]) -> list[tuple[int, ...]] | None:
        """Return what a step before the first or after the last would compute; None if a series has no such element.

        Args:
            numbering: of the graph.
            step: -1 for one before the first, `steps` for one after the last.
            init: what (slot, index, lag) would be before that step.
        """
        for part in dict.fromkeys(self.inputs()):
            if isinstance(part, Affine) and part.at(step) is None and not self._changed(part, step):
                return None
        made: list[tuple[int, ...]] = []
        for slot, node in enumerate(self.nodes):
            stand = self.stands.get(slot)
            if stand is None:
                operands = [self._operand(read, step, made, init) for read in self.reads[slot]]
                made.append(numbering.apply(node, tuple(operands)))
            else:
                made.append(node.outs if isinstance(stand, Invariant) else (self._operand(stand, step, made, init),))
        return made

    def _changed(self, read: Affine, step: int) -> bool:
        """Put in the place of a slice one that has an element for one more step; return False if there is none."""
        for other in self.others.get(read, ()):
            if other.at(step) is not None and all(other.at(k) == read.at(k) for k in range(self.steps)):
                self.replace(lambda part, old=read, new=other: new if part == old else part)  # type: ignore[misc]
                self.others.setdefault(other, []).append(read)
                return True
        return False

    def replace(self, function: Callable[[Affine], Affine]) -> None:
        """Put others in the place of all slices."""

        def put(read: Read) -> Read:
            return function(read) if isinstance(read, Affine) else read

        self.reads = [list(map(put, reads)) for reads in self.reads]
        self.stands = {slot: put(read) for slot, read in self.stands.items()}

    def count_from(self, first: int) -> None:
        """Let slices be counted from another step."""

        def moved(read: Affine) -> Affine:
            return read._replace(start=read.start + first * read.step)

        self.replace(moved)
        self.others = {moved(read): list(map(moved, others)) for read, others in self.others.items()}

    def _operand(self, read: Read, step: int, made: list[tuple[int, ...]], init: dict[Key, int]) -> int:
        if isinstance(read, Invariant):
            return read.number
        if isinstance(read, Local):
            return made[read.slot][read.out]
        if isinstance(read, Carried):
            return init[read.slot, read.out, read.lag]
        element = read.at(step)
        assert element is not None
        return element

    def last(self) -> dict[Key, int]:
        """Return what (slot, index, lag) is after the last step."""
        return {
            (slot, index, lag): self.past(self.steps - lag, slot, index)
            for (slot, index), most in self.lags.items()
            for lag in range(1, most + 1)
        }
