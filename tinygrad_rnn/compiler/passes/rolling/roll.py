"""Rolling of loops that were written in Python: calls that repeat step by step become one call of a loop.

The body of a `for` statement is recorded once for each iteration. Where calls repeat in the same order, with operands
that are loop-invariant, local to the step, loop-carried, or successive elements of a series, one step becomes the body
of a loop. Every operand of every step is checked; calls that do not fit stay as they are.
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

_STEPS = 4  # fewest steps of a loop: in a backward pass the first and the last differ from the others
_CALLS = 8  # fewest calls that a loop must save
_TIMES = 4  # most searches: calls left outside of loops may repeat, too


def roll(graph: Graph) -> Graph:
    """Turn calls that repeat into loops.

    The graph computes the same, each value in the same way; zeros are added where a step lacks a term.
    """
    for _ in range(_TIMES):
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
    """Searches a graph for loops; one use.

    Attributes:
        loops: the loops found, and where each begins: (place of its first call modulo the period, period).
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
        """Search a run, or parts of it, for loops."""
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
        """Accept a loop if it saves enough; return whether it is accepted."""
        slots = len(list(loop.computed()))
        if loop.steps < _STEPS or slots * (loop.steps - 1) < _CALLS:
            return False
        slices = [read for read in loop.inputs() if isinstance(read, Affine)]
        if not _is_recurrent(loop) and any(self._is_copied(read) for read in slices):
            return False  # the same operations on several arguments: stacking those costs more than it saves
        loop.reverse = sum(read.step < 0 for read in slices) > sum(read.step > 0 for read in slices)
        return self.table.claim(loop)

    def _is_copied(self, read: Affine) -> bool:
        """Return whether the elements of a series are arrays that must be stacked first."""
        series, parts = read.series, self.numbering
        return isinstance(series, Listed) and series.dtype is None and not all(map(parts.is_constant, series.base))


def _is_recurrent(loop: Rolled) -> bool:
    """Return whether a loop carries something other than sums."""
    return any(
        loop.nodes[slot].call.name != "add" or Carried(slot, out, 1) not in loop.reads[slot] for slot, out in loop.lags
    )
