"""Series that a loop takes slices of: parts of an array, results of another loop, constants."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

import numpy as np

from ...ir.table import VIEWS
from .loop import Affine, Carried, Invariant, Read, Rolled, Series
from .numbering import Node, Numbering


class Parts:
    """The results of an unstack, or of a split into equal parts."""

    def __init__(self, node: Node) -> None:
        self.node, self.length, self.base = node, len(node.outs), node.operands

    def element(self, index: int) -> int | None:
        """Return the value number of a part."""
        return self.node.outs[index] if 0 <= index < self.length else None


class Slices:
    """The slices of an array for all integers in one place of an index, whose other parts are fixed."""

    def __init__(self, numbering: Numbering, node: Node, hole: int) -> None:
        self.numbering, self.node, self.hole = numbering, node, hole
        self.axis = _axis_of(node.call.attrs["index"], hole)
        self.length, self.base = node.call.inputs[0].shape[self.axis], node.operands
        self._unknown: dict[int, int] = {}

    def element(self, index: int) -> int | None:
        """Return the value number of a slice, a new one if it is not in the graph."""
        if not 0 <= index < self.length:
            return None
        node = self.node
        ints = (*node.ints[: self.hole], index, *node.ints[self.hole + 1 :])
        found = self.numbering.slices.get((node.operands[0], node.pattern, ints))
        return self._unknown.setdefault(index, self.numbering.unknown()) if found is None else found


class Results:
    """A result of a loop at each step, or `lag` steps before it, in the order of time."""

    def __init__(self, loop: Rolled, slot: int, index: int, lag: int = 0) -> None:
        self.loop, self.slot, self.index, self.lag = loop, slot, index, lag
        self.length = loop.steps
        self.base: tuple[int, ...] = ()

    def element(self, index: int) -> int | None:
        """Return the value number of the result at a time."""
        if not 0 <= index < self.length:
            return None
        return self.loop.past(self.loop.time(index) - self.lag, self.slot, self.index)


class Listed:
    """Unrelated values, such as constants, which must be stacked. Python numbers get a dtype."""

    def __init__(self, numbers: tuple[int, ...], dtype: np.dtype[np.generic] | None = None) -> None:
        self.base, self.length, self.dtype = numbers, len(numbers), dtype

    def element(self, index: int) -> int | None:
        """Return the value number of one of them."""
        return self.base[index] if 0 <= index < self.length else None


Join = list[tuple[Series | None, int, int, int]]
"""The parts that a stack joins, in order: (series, first index, step, count), or (None, value number, 0, 1)."""

_Home = tuple[Rolled, int, int, int]
"""Where a value is computed: the loop, slot and index of its result in the body, step."""


class SeriesTable:
    """Knows which series a value is in, and which loop computes it.

    Attributes:
        home: for the number of a value, where it is computed.
    """

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self._known: dict[Hashable, Series] = {}
        self.home: dict[int, _Home] = {}
        self._listed: dict[int, list[tuple[Series, int]]] = {}
        self._started: dict[int, list[tuple[Series, int]]] = {}

    def of(self, number: int) -> Iterator[tuple[Series, int]]:
        """Yield (series, index) for each series that a value is in, those that cost no memory first."""
        made = self.numbering.maker(number)
        if made is not None:
            node, index = made
            name, shapes = node.call.name, {value.shape for value in node.call.outputs}
            if name == "unstack" or (name == "split" and len(shapes) == 1):
                yield self._series(("parts", node), lambda: Parts(node)), index
            elif node.pattern >= 0:
                for hole, at in enumerate(node.ints):
                    yield self.slices(node, hole), at
        if number in self.home:
            loop, slot, index, step = self.home[number]
            for lag in range(min(loop.lags.get((slot, index), 0), loop.steps - 1 - step) + 1):
                yield self.results(loop, slot, index, lag), loop.time(step + lag)
        yield from self._started.get(number, ())

    def slices(self, node: Node, hole: int) -> Series:
        """Return the series of a getitem, in which one integer of its index varies."""
        rest = *node.ints[:hole], *node.ints[hole + 1 :]
        key = "slices", node.operands[0], node.pattern, hole, rest
        return self._series(key, lambda: Slices(self.numbering, node, hole))

    def results(self, loop: Rolled, slot: int, index: int, lag: int = 0) -> Series:
        """Return the series of a result of a loop."""
        return self._series(("results", loop, slot, index, lag), lambda: Results(loop, slot, index, lag))

    def listed(self, numbers: tuple[int, ...], dtype: np.dtype[np.generic] | None = None) -> Series:
        """Return the series of some values, or of some Python numbers as numbers of a dtype."""
        return self._series(("listed", numbers, dtype), lambda: Listed(numbers, dtype))

    def listed_with(self, number: int) -> list[tuple[Series, int]]:
        """Return (series, index) for each place of a value in the listed series that loops read."""
        return self._listed.get(number, [])

    def claim(self, loop: Rolled) -> bool:
        """Let a loop compute its values; return False if that is impossible.

        Values that its inputs depend on are computed outside, even if the loop computes them too.
        """
        own = self._computed(loop)
        if not self._leave(loop, own):
            return False
        self.home.update(own)
        self._note_lists(loop)
        self._note_starts(loop)
        return True

    def _computed(self, loop: Rolled) -> dict[int, _Home]:
        """Return the values that a loop computes, and no other loop does, with their places in it."""
        own: dict[int, _Home] = {}
        for step, made in enumerate(loop.values):
            for slot in loop.computed():
                for index, number in enumerate(made[slot]):
                    if number > 0 and number not in self.home and self.numbering.maker(number) is not None:
                        is_last = step == loop.steps - 1 and (slot, index) in loop.lags
                        if is_last or number not in own:  # a final carried value needs no stack
                            own[number] = loop, slot, index, step
        return own

    def _leave(self, loop: Rolled, own: dict[int, _Home]) -> bool:
        """Remove from `own` the values that a loop's inputs depend on; return False if a draw is among them."""
        numbering = self.numbering
        first = min((numbering.makers[number][0].place for number in own), default=0)  # type: ignore[union-attr]
        waiting = list(loop.init.values())
        for read in loop.inputs():
            waiting += read.series.base if isinstance(read, Affine) else (read.number,)
        seen: set[int] = set()
        while waiting:
            number = waiting.pop()
            made_by = numbering.maker(number)
            if number in seen or number in self.home or made_by is None or made_by[0].place < first:
                continue
            seen.add(number)
            if own.pop(number, None) is not None and not made_by[0].call.operator.pure:
                return False
            waiting += made_by[0].operands
        return True

    def _note_lists(self, loop: Rolled) -> None:
        """Enter the values of listed series that a loop reads into `_listed`."""
        for read in loop.inputs():
            if isinstance(read, Affine) and isinstance(read.series, Listed):
                for at, number in enumerate(read.series.base):
                    self._listed.setdefault(number, []).append((read.series, at))

    def _note_starts(self, loop: Rolled) -> None:
        """Enter the values that a loop carries into `_started`: as series of values some steps before."""
        for (slot, index), most in loop.lags.items():
            for step, made in enumerate(loop.values if slot in loop.replaced else ()):
                for lag in range(1, min(most, loop.steps - 1 - step) + 1):
                    series = self.results(loop, slot, index, lag)
                    self._started.setdefault(made[slot][index], []).append((series, loop.time(step + lag)))
        for (slot, index, lag), number in loop.init.items():
            for most in range(lag, loop.lags[slot, index] + 1):  # also read at later steps, with a larger lag
                series = self.results(loop, slot, index, most)
                self._started.setdefault(number, []).append((series, loop.time(most - lag)))

    def _series(self, key: Hashable, make: Callable[[], Series]) -> Series:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _axis_of(index: object, hole: int) -> int:
    parts = index if isinstance(index, tuple) else (index,)
    return [axis for axis, part in enumerate(parts) if type(part) is int][hole]


def looked_through(table: SeriesTable, read: Affine) -> tuple[Read, tuple[Node, int] | None]:
    """Return (base, (view, index of its result)) for a slice of another loop's view, or (the slice, None).

    The other loop then returns one stack of the base for all views of it.
    """
    series = read.series
    if not isinstance(series, Results) or series.lag or series.slot in series.loop.replaced:
        return read, None
    loop, node = series.loop, series.loop.nodes[series.slot]
    if node.call.name not in VIEWS or len(node.operands) != 1:
        return read, None
    (base,) = loop.reads[series.slot]
    view = node, series.index
    if isinstance(base, Invariant):
        return base, view
    if isinstance(base, Affine):  # its elements in the order of execution; `read` counts in the order of time
        start, step = base.start, base.step
        if loop.reverse:
            start, step = start + step * (loop.steps - 1), -step
        return Affine(base.series, start + step * read.start, step * read.step), view
    lag = base.lag if isinstance(base, Carried) else 0
    return read._replace(series=table.results(loop, base.slot, base.out, lag)), view


def join_of(table: SeriesTable, node: Node) -> Join | None:
    """Return what a stack or a concatenation joins as elements of series; None if they are joined one by one."""
    if node.call.name not in ("stack", "concatenate"):
        return None
    outputs = {table.numbering.spec(number) for number in node.operands}
    if len(outputs) != 1 or len(node.operands) < 2:
        return None
    join: Join = []
    at = 0
    while at < len(node.operands):
        best: tuple[Series | None, int, int, int] = (None, node.operands[at], 0, 1)
        for series, start, step in _starting(table, node.operands[at : at + 2]):
            count = 2
            while at + count < len(node.operands) and series.element(start + count * step) == node.operands[at + count]:
                count += 1
            if count > best[3]:
                best = series, start, step, count
        join.append(best)
        at += best[3]
    whole = len(join) == 1 if node.call.name == "concatenate" else 3 * len(join) <= len(node.operands) + 2
    return join if whole and join[0][3] + join[-1][3] > 2 else None


def _starting(table: SeriesTable, numbers: tuple[int, ...]) -> Iterable[tuple[Series, int, int]]:
    """Yield (series, index of the first, step) for each series that both of two values are in."""
    if len(numbers) == 2:
        second = dict(table.of(numbers[1]))
        for series, index in table.of(numbers[0]):
            if series in second and second[series] != index:
                yield series, index, second[series] - index
