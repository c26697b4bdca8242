"""Recognition of a loop in a run of roles: the kind of each operand, checked at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ....engine.tape import Array
from ...ir.graph import Value
from ...ir.table import ELEMENTWISE
from .loop import Affine, Carried, Invariant, Local, Read, Rolled, resolved
from .numbering import Node
from .periods import Run
from .series import SeriesTable

_LAGS = 8  # most periods that a value is carried

_PAIRS = 4  # most pairs of steps from which the slice that an operand is may be inferred

_Column = NDArray[np.int64]
_Fits = NDArray[np.bool_]


class Line:
    """A sequence of nodes, with their operands in arrays.

    Attributes:
        nodes: the nodes, whose `place` is set.
        roles: the role of each.
        outs: the numbers of the results of each.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        for place, node in enumerate(nodes):
            node.place = place
        self.roles = np.array([node.role for node in nodes], np.int64)
        self.outs = [node.outs for node in nodes]
        self._first = np.cumsum([0, *[len(node.operands) for node in nodes]])
        self._numbers = np.array([*chain.from_iterable([node.operands for node in nodes])], np.int64)
        sources = [*chain.from_iterable([node.sources for node in nodes])]
        self._places = np.array([-1 if maker is None else maker.place for maker, _ in sources], np.int64)
        self._which = np.array([index for _, index in sources], np.int64)

    def operand(self, places: _Column, number: int) -> tuple[_Column, _Column, _Column]:
        """Return one operand of the nodes at some places: value numbers, places of their sources, result indices."""
        at = self._first[places] + number
        return self._numbers[at], self._places[at], self._which[at]

    def crossing(self, run: Run) -> tuple[list[int], list[int]]:
        """Return for each place in a period how many values, and how many bytes, are live there."""
        values, sizes = np.zeros(run.period + 1, np.int64), np.zeros(run.period + 1, np.int64)
        spans: dict[tuple[int, int], int] = {}  # from a value to its last reader in the last period
        for place in range(run.end - run.period, run.end):
            for maker, index in self.nodes[place].sources:
                if maker is not None and run.start <= maker.place < place:
                    key = maker.place, index
                    spans[key] = max(spans.get(key, 0), place - maker.place)
        longest: dict[tuple[int, int], int] = {}  # the same for values at the same place in a period
        for (place, index), span in spans.items():
            if span <= _LAGS * run.period:
                key = (place - run.start) % run.period, index
                longest[key] = max(longest.get(key, 0), span)
        for (place, index), span in longest.items():
            size = self.nodes[run.start + place].call.outputs[index].nbytes
            whole, rest = divmod(span, run.period)
            for first in (place + 1, place + 1 - run.period):  # the rest of a span may reach into the next period
                values[max(0, first) : max(0, first + rest)] += 1
                sizes[max(0, first) : max(0, first + rest)] += size
            values += whole
            sizes += whole * size
        return values[: run.period].tolist(), sizes[: run.period].tolist()


def starts_of(line: Line, run: Run) -> list[int]:
    """Return places where the first step of a run may begin: those where the fewest values are live.

    First come places that leave the largest number of steps, then places anywhere in a period: the nodes before them
    may be a step that the graph computes in part.
    """
    carried = list(zip(*line.crossing(run), strict=True))
    found: dict[int, None] = {}
    for free in ((run.end - run.start) % run.period, run.period - 1 if run.end - run.start >= 3 * run.period else 0):
        least = min(carried[: free + 1])
        best = [run.start + k for k, one in enumerate(carried[: free + 1]) if one == least]
        found.update(dict.fromkeys(sorted({best[0], best[-1], best[len(best) // 2]})))
    return list(found)


class _RefusedError(Exception):
    """The run is not a loop."""


def loop_of(line: Line, table: SeriesTable, start: int, period: int, count: int) -> tuple[Rolled, int] | None:
    """Return (loop, number of its first step) for `count` steps that begin at `start`; None if they are not a loop.

    The loop has the steps around the middle one that agree with it.
    """
    try:
        return _Reader(line, table, start, period, count).loop()
    except _RefusedError:
        return None


class _Reader:
    """Finds out the kind of each operand in a run; one use."""

    def __init__(self, line: Line, table: SeriesTable, start: int, period: int, count: int) -> None:
        self.line, self.table, self.numbering = line, table, table.numbering
        self.start, self.period, self.count = start, period, count
        self.middle = max(1, count // 2)
        self.low, self.high = 0, count
        self.alternatives: dict[Affine, list[Affine]] = {}

    def loop(self) -> tuple[Rolled, int]:
        line = self.line
        reads: list[list[Read]] = []
        replaced: dict[int, Read] = {}
        nodes = list(line.nodes[self.start + self.middle * self.period :][: self.period])
        for slot, node in enumerate(nodes):
            places = self.start + slot + self.period * np.arange(self.count)
            some = [self._read(slot, places, number) for number in range(len(node.operands))]
            reads.append([resolved(read, nodes, replaced) for read in some])
            replacement = self._replacement(node, places, reads[-1])
            if replacement is not None:
                replaced[slot] = replacement
        loop = Rolled(nodes, reads, replaced)
        while self.high - self.low >= 2 and not self._starts(loop):
            self.low += 1
        if self.high - self.low < 2:
            raise _RefusedError
        loop.values = [
            line.outs[place : place + self.period]
            for place in (self.start + step * self.period for step in range(self.low, self.high))
        ]
        loop.alternatives = self.alternatives
        loop.count_from(self.low)
        return loop, self.low

    def _fits(self, fits: _Fits) -> None:
        """Keep the steps around the middle one for which a condition holds."""
        wrong = np.flatnonzero(~np.asarray(fits))
        self.low = max(self.low, *(wrong[wrong < self.middle] + 1).tolist(), 0)
        self.high = min(self.high, *wrong[wrong >= self.middle].tolist(), self.count)
        if self.high - self.low < 2:
            raise _RefusedError

    def _read(self, slot: int, places: _Column, number: int) -> Read:
        numbers, makers, which = self.line.operand(places, number)
        middle = self.middle
        maker, place = int(makers[middle]), int(places[middle])
        if maker >= place:
            raise _RefusedError
        if self.start <= maker and place - maker < _LAGS * self.period:
            lag = middle - (maker - self.start) // self.period
            fits = (places - makers == place - maker) & (which == which[middle])
            fits[:lag] = True  # initial values
            self._fits(fits)
            made = (maker - self.start) % self.period, int(which[middle])
            return Carried(*made, lag) if lag else Local(*made)
        if (numbers == numbers[middle]).all():
            return Invariant(int(numbers[middle]))
        return self._varying(slot, numbers, number)

    def _varying(self, slot: int, numbers: _Column, number: int) -> Read:
        """Return the kind of an operand that varies: the one that explains it at the most steps."""
        given = numbers.tolist()
        candidates: list[tuple[Read, _Fits]] = [(Invariant(given[self.middle]), numbers == numbers[self.middle])]
        for part in self._slices(given):
            candidates.append((part, np.array([part.at(step) == one for step, one in enumerate(given)])))
        if all(_around(fits, self.middle) < self.count for _, fits in candidates):
            listed = self._listed(slot, given, number)
            if listed is not None:
                candidates.append((listed, np.ones(self.count, bool)))

        def score(candidate: tuple[Read, _Fits]) -> int:
            read, fits = candidate
            beyond = [isinstance(read, Affine) and read.at(step) is not None for step in (-1, self.count)]
            return 4 * _around(fits, self.middle) + sum(beyond)

        read, fits = max(candidates, key=score)
        self._fits(fits)
        if isinstance(read, Affine):
            alike = [other for other, some in candidates if some[self.low : self.high].all() and other != read]
            self.alternatives[read] = [other for other in alike if isinstance(other, Affine)]
        return read

    def _slices(self, numbers: list[int]) -> Iterator[Affine]:
        """Yield slices that an operand may be, inferred from pairs of successive steps near the middle.

        One pair is not always enough: an element that is equal to an earlier one has the number of that one.
        """
        found: dict[Affine, None] = {}
        order = sorted(range(1, len(numbers)), key=lambda k: abs(k - self.middle))
        for at in [k for k in order if numbers[k] != numbers[k - 1]][:_PAIRS]:
            before = dict(self.table.of(numbers[at - 1]))
            for series, index in self.table.of(numbers[at]):
                if series in before and before[series] != index:
                    step = index - before[series]
                    found[Affine(series, index - step * at, step)] = None
            for series, index in self.table.listed_with(numbers[at]):
                for step in (1, -1):
                    read = Affine(series, index - step * at, step)
                    if read not in found and all(read.at(k) == one for k, one in enumerate(numbers)):
                        found[read] = None
        yield from found

    def _listed(self, slot: int, numbers: list[int], number: int) -> Read | None:
        """Return an operand that is another constant, Python number or input at each step as a slice of a stack."""
        node, parts = self.line.nodes[self.start + slot], self.numbering
        if node.call.name in ("matmul", "transpose") and number == len(node.operands) - 1:  # weights are not copied
            return None
        given = [parts.values[n] for n in numbers]
        if all(map(parts.is_number, numbers)):
            return self._numbers(node, numbers, number)
        if len({parts.spec(n) for n in numbers}) > 1 or not all(isinstance(part, Value) for part in given):
            return None
        is_input = len(set(numbers)) == len(numbers) and all(part.maker is None for part in given)
        if not is_input and any(part.constant is None for part in given):
            return None
        return Affine(self.table.listed(tuple(numbers)), 0, 1)

    def _numbers(self, node: Node, numbers: list[int], number: int) -> Read | None:
        """Return Python numbers as slices of an array with the dtype of the array that they are combined with."""
        given = [self.numbering.values[n] for n in numbers]
        specs = [self.numbering.spec(n) for k, n in enumerate(node.operands) if k != number]
        if node.call.name not in ELEMENTWISE or len(specs) != 1 or specs[0] is None or len(set(map(type, given))) > 1:
            return None
        shape, dtype = specs[0]
        arrays = [np.asarray(part).astype(dtype) for part in given]
        if np.result_type(np.empty(0, dtype), given[0]) != dtype or node.call.outputs[0].shape != shape:
            return None
        if dtype.kind not in "fc" and not _same_numbers(arrays, given):
            return None
        return Affine(self.table.listed(tuple(numbers), dtype), 0, 1)

    def _replacement(self, node: Node, places: _Column, reads: list[Read]) -> Read | None:
        """Return the slice or invariant that replaces a node, or None if the loop must compute it."""
        if node.pattern >= 0:
            ints = np.array([self.line.nodes[place].ints for place in places.tolist()])
            varying = np.flatnonzero(ints[self.middle] != ints[self.middle - 1])
            if len(varying) == 1 and isinstance(reads[0], Invariant):
                (hole,) = varying.tolist()
                at, before = int(ints[self.middle, hole]), int(ints[self.middle - 1, hole])
                step = at - before
                first = at - step * self.middle
                expected = np.repeat(ints[self.middle : self.middle + 1], self.count, 0)
                expected[:, hole] = first + step * np.arange(self.count)
                self._fits((ints == expected).all(axis=1))
                return Affine(self.table.slices(node, hole), first, step)
            self._fits((ints == ints[self.middle]).all(axis=1))
        if node.call.operator.pure and all(isinstance(read, Invariant) for read in reads):
            return Invariant(node.outs[0])
        return None

    def _starts(self, loop: Rolled) -> bool:
        """Find the initial values of the loop; return False if they are missing or contradict each other."""
        loop.init = {}
        for slot, reads in enumerate(loop.reads):
            for number, read in enumerate(reads):
                if not isinstance(read, Carried):
                    continue
                value = loop.nodes[read.slot].call.outputs[read.out]
                for step in range(self.low, min(self.low + read.lag, self.high)):  # those that read initial values
                    node = self.line.nodes[self.start + step * self.period + slot]
                    given = self._converted(node, node.operands[number], value)
                    key = read.slot, read.out, read.lag - (step - self.low)
                    if given is None or loop.init.setdefault(key, given) != given:
                        return False
        wanted = {(*key, lag) for key, most in loop.lags.items() for lag in range(1, most + 1)}
        return wanted == loop.init.keys()

    def _converted(self, node: Node, number: int, value: Value) -> int | None:
        """Return the number of an initial value in the shape and dtype of a value; None if it cannot have them."""
        if self.numbering.spec(number) == value.spec:
            return number
        if self.numbering.is_number(number) and node.call.name in ELEMENTWISE and value.dtype.kind in "fc":
            given = self.numbering.values[number]
            array = np.full(value.shape, given, value.dtype)
            return self.numbering.constant(array) if _same_numbers([array.reshape(-1)[:1]], [given]) else None
        return None


def _around(fits: _Fits, middle: int) -> int:
    """Return how many entries around the middle one are true without a gap."""
    if not fits[middle]:
        return 0
    wrong = np.flatnonzero(~fits)
    return int(min(wrong[wrong > middle], default=len(fits)) - max(wrong[wrong < middle], default=-1) - 1)


def _same_numbers(arrays: Sequence[Array], given: Sequence[object]) -> bool:
    return all(bool(np.all(np.asarray(array) == part)) for array, part in zip(arrays, given, strict=True))
