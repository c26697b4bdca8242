"""Loops found in a recorded graph: the nodes of one step, and the value numbers of every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .numbering import Node, Numbering


class Series(Protocol):
    """A sequence of values that a loop can read element by element.

    Attributes:
        length: number of elements.
        base: value numbers that it is taken from; none for results of a loop.
    """

    length: int
    base: tuple[int, ...]

    def element(self, index: int) -> int | None:
        """Return the value number of an element; None outside of 0 .. length - 1."""


class Invariant(NamedTuple):
    """An operand that is loop-invariant: the same at each step."""

    number: int


class Local(NamedTuple):
    """An operand that the same step computes: a result of the node in a slot."""

    slot: int
    out: int


class Carried(NamedTuple):
    """An operand that is loop-carried: computed `lag` steps before."""

    slot: int
    out: int
    lag: int


class Affine(NamedTuple):
    """An operand that is element `start + step * m` of a series, at the m-th step of execution."""

    series: Series
    start: int
    step: int

    def at(self, step: int) -> int | None:
        """Return the number of the element at a step."""
        return self.series.element(self.start + self.step * step)


Read = Invariant | Local | Carried | Affine

Key = tuple[int, int, int]
"""A result of a slot, some steps before: (slot, index, lag)."""


def resolved(read: Read, nodes: list[Node], replaced: dict[int, Read]) -> Read:
    """Return an operand, or what replaces it if it is the result of a replaced slot."""
    if not isinstance(read, Local) or read.slot not in replaced:
        return read
    replacement = replaced[read.slot]
    return Invariant(nodes[read.slot].outs[read.out]) if isinstance(replacement, Invariant) else replacement


class Rolled:
    """A loop.

    Attributes:
        nodes: those of one step; a slot is a position among them.
        reads: for each slot, the kinds of its operands.
        replaced: for a slot that needs no call in the loop, the slice or invariant that replaces it.
        values: for each step in the order of execution, for each slot, the value numbers of its results.
        lags: for each result that later steps read, (slot, index), how many steps later at most.
        init: value number of (slot, index, lag) before the first step; lag 1 is the step just before it.
        reverse: whether the first step of execution is the last in the order of time.
        alternatives: for a slice, others that are the same values at all steps so far.
        drawn: whether a step draws from a generator.
    """

    def __init__(self, nodes: list[Node], reads: list[list[Read]], replaced: dict[int, Read]) -> None:
        self.nodes, self.reads, self.replaced = nodes, reads, replaced
        self.values: list[list[tuple[int, ...]]] = []
        self.lags: dict[tuple[int, int], int] = {}
        self.init: dict[Key, int] = {}
        self.reverse = False
        self.alternatives: dict[Affine, list[Affine]] = {}
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
        """Place among the nodes of the graph: that of a draw, or of the first node of a step."""
        return next((node.place for node in self.nodes if not node.call.operator.pure), self.nodes[0].place)

    def time(self, step: int) -> int:
        """Convert a number of a step from the order of execution to the order of time, or the reverse."""
        return self.steps - 1 - step if self.reverse else step

    def past(self, step: int, slot: int, index: int) -> int:
        """Return the value number of a result at a step, or its initial value for a step before the first."""
        return self.values[step][slot][index] if step >= 0 else self.init[slot, index, -step]

    def computed(self) -> Iterator[int]:
        """Yield the slots that the loop computes."""
        return (slot for slot in range(len(self.nodes)) if slot not in self.replaced)

    def inputs(self) -> Iterator[Invariant | Affine]:
        """Yield the operands that it reads from outside, apart from initial values."""
        for read in (*(read for slot in self.computed() for read in self.reads[slot]), *self.replaced.values()):
            if isinstance(read, Invariant | Affine):
                yield read

    def step(self, numbering: Numbering, step: int, init: dict[Key, int]) -> list[tuple[int, ...]] | None:
        """Return the numbers of what a step before the first or after the last would compute; None if a series ends.

        Args:
            numbering: of the graph.
            step: -1 for one before the first, `steps` for one after the last.
            init: value number of (slot, index, lag) before that step.
        """
        for part in dict.fromkeys(self.inputs()):
            if isinstance(part, Affine) and part.at(step) is None and not self._changed(part, step):
                return None
        made: list[tuple[int, ...]] = []
        for slot, node in enumerate(self.nodes):
            read = self.replaced.get(slot)
            if read is None:
                operands = [self._operand(read, step, made, init) for read in self.reads[slot]]
                made.append(numbering.apply(node, tuple(operands)))
            else:
                made.append(node.outs if isinstance(read, Invariant) else (self._operand(read, step, made, init),))
        return made

    def _changed(self, read: Affine, step: int) -> bool:
        """Replace a slice by an alternative that has an element for one more step; return False if there is none."""
        for other in self.alternatives.get(read, ()):
            if other.at(step) is not None and all(other.at(k) == read.at(k) for k in range(self.steps)):
                self.replace(lambda part, old=read, new=other: new if part == old else part)  # type: ignore[misc]
                self.alternatives.setdefault(other, []).append(read)
                return True
        return False

    def replace(self, function: Callable[[Affine], Affine]) -> None:
        """Replace all slices as a function says."""

        def put(read: Read) -> Read:
            return function(read) if isinstance(read, Affine) else read

        self.reads = [list(map(put, reads)) for reads in self.reads]
        self.replaced = {slot: put(read) for slot, read in self.replaced.items()}

    def count_from(self, first: int) -> None:
        """Renumber the steps that slices count, so that step `first` is step 0."""

        def moved(read: Affine) -> Affine:
            return read._replace(start=read.start + first * read.step)

        self.replace(moved)
        self.alternatives = {moved(read): list(map(moved, some)) for read, some in self.alternatives.items()}

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
        """Return the value number of each (slot, index, lag) after the last step."""
        return {
            (slot, index, lag): self.past(self.steps - lag, slot, index)
            for (slot, index), most in self.lags.items()
            for lag in range(1, most + 1)
        }
