"""Roll up loops that were written in Python: calls that repeat step by step become one call of a loop.

A line of Python in a `for` is recorded as often as it runs. Where the calls of a graph repeat in the same order, with
operands that are the same at each step, made by the same step, handed on by one before, or elements of an array in a
row, one step of them becomes the body of a loop. Every operand of every step is checked; what does not fit stays as it
is.
"""

from __future__ import annotations

from ...ir.graph import Graph
from .boundary import extend
from .cotangents import late_sums, stacked_slices
from .emit import ConflictError, emitted
from .loop import Affine, Carried, Rolled
from .numbering import Numbering
from .periods import Run, runs
from .recognition import Line, loop_of, starts_of
from .series import Listed, SeriesTable

_STEPS = 4  # of which a loop is made at least: the first and the last step backward differ from the others
_CALLS = 8  # that a loop must save
_TIMES = 4


def roll(graph: Graph) -> Graph:
    """Make loops of calls that repeat.

    The graph computes the same, each value in the same way; zeros are added where a step lacks a term.
    """
    for _ in range(_TIMES):  # what is left beside loops may repeat, too
        rolled = _rolled(graph)
        if rolled is None:
            break
        graph = rolled
    return graph


def _rolled(graph: Graph) -> Graph | None:
    """Return the graph with loops in it; None if there are none to make."""
    refused: set[tuple[int, int]] = set()
    while len(graph.calls) > _CALLS:
        found = _Search(graph, refused)
        if not found.loops:
            return None
        try:
            return emitted(graph, found.table, list(found.line.nodes))
        except ConflictError as conflict:
            refused |= {found.loops[loop] for loop in conflict.loops or found.loops}
    return None


class _Search:
    """Looks for loops in a graph; one use.

    Attributes:
        loops: that were found, and where each was: (place of its first call, period).
    """

    def __init__(self, graph: Graph, refused: set[tuple[int, int]]) -> None:
        self.numbering, self.refused = Numbering(graph), refused
        self.table = SeriesTable(self.numbering)
        self.loops: dict[Rolled, tuple[int, int]] = {}
        nodes = stacked_slices(self.numbering, self.numbering.nodes)
        self.line = Line(nodes)
        found = runs(self.line.roles)
        ordered = late_sums(self.numbering, nodes, found)
        if ordered != nodes:
            self.line = Line(ordered)
            found = runs(self.line.roles)
        for run in found:
            self._look_at(run)

    def _look_at(self, run: Run) -> None:
        """Make a loop of a run, or of parts of it."""
        if run.end - run.start < 2 * run.period:
            return
        found: list[tuple[Rolled, int, int]] = []
        for start in starts_of(self.line, run):
            made = loop_of(self.line, self.table, start, run.period, (run.end - start) // run.period)
            if made is not None and (start % run.period, run.period) not in self.refused:
                loop, begin = made[0], start + made[1] * run.period
                found.append((loop, begin, begin + loop.steps * run.period))
                extend(self.numbering, loop, self.table.home)
                if loop.steps * run.period >= run.end - run.start:
                    break
        for loop, begin, end in sorted(found, key=lambda one: -one[0].steps)[:1]:
            if self._taken(loop):
                self.loops[loop] = begin % run.period, run.period
                self._look_at(run._replace(end=begin))
                self._look_at(run._replace(start=end))
                return
        if run.end - run.start >= 4 * run.period:
            middle = run.start + (run.end - run.start) // run.period // 2 * run.period
            self._look_at(run._replace(end=middle))
            self._look_at(run._replace(start=middle))

    def _taken(self, loop: Rolled) -> bool:
        """Take a loop if it is worth it."""
        slots = len(list(loop.computed()))
        if loop.steps < _STEPS or slots * (loop.steps - 1) < _CALLS:
            return False
        slices = [read for read in loop.inputs() if isinstance(read, Affine)]
        if not _is_recurrent(loop) and any(self._is_copied(read) for read in slices):
            return False  # the same done to several arguments: it is not worth to put them together
        loop.reverse = sum(read.step < 0 for read in slices) > sum(read.step > 0 for read in slices)
        return self.table.claim(loop)

    def _is_copied(self, read: Affine) -> bool:
        """Return whether a slice is one of arrays that must be put together first."""
        series, parts = read.series, self.numbering
        return isinstance(series, Listed) and series.dtype is None and not all(map(parts.is_constant, series.base))


def _is_recurrent(loop: Rolled) -> bool:
    """Return whether a loop carries something other than sums."""
    return any(
        loop.nodes[slot].call.name != "add" or Carried(slot, out, 1) not in loop.reads[slot] for slot, out in loop.lags
    )
