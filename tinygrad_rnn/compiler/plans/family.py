"""Plans for any length: how the numbers of a plan depend on the numbers of the function that was recorded.

A function that is called with another length is recorded again. That takes a few milliseconds, as a loop is recorded
once, and shows what the function does with this length, whatever its Python code makes of it. If it differs from two
earlier recordings only in numbers (lengths, sizes, indices), and the three lie on one line, then so do the numbers of
their plans: each is a + b * length, as no array has two axes that change. The new plan is an old one with other
numbers: no pass runs, and only the arena is laid out.

Everything else must be the same: operators, operands, dtypes, constants; see `between`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .between import PlanLine, UnknownError
from .memory import Beside, Memory
from .plan import Plan
from .skeleton import Skeleton

_MEMBERS = 3  # recordings that are kept, for lines to the next one
_LINES = 4  # lines that are kept: for lengths at the usual batch size, and at that of the last batch, for instance


class _Member(NamedTuple):
    """A recording, and the plan that passes made of it."""

    recorded: Skeleton
    plan: Plan


class Family:
    """Plans of recordings that have the same form.

    `add` takes the plans that passes have made for the first two lengths; from then on, `plan_for` needs no pass.

    Args:
        beside: see `Memory`.

    Attributes:
        memory: shared by their executors.
    """

    def __init__(self, beside: Beside | None = None) -> None:
        self.memory = Memory(beside)
        self._members: list[_Member] = []  # the newest
        self._lines: list[_Line] = []  # through two members each; the one used last comes first

    def add(self, recorded: Skeleton, plan: Plan) -> None:
        """Add the plan that passes have made of a recording."""
        new = _Member(recorded, plan)
        lines = [line for other in reversed(self._members) if (line := _line(other, new)) is not None]
        self._lines = [*lines, *self._lines][:_LINES]
        self._members = [*self._members[1 - _MEMBERS :], new]

    def plan_for(self, recorded: Skeleton) -> Plan | None:
        """Return the plan for a recording, or None if it cannot be derived."""
        for number, line in enumerate(self._lines):
            plan = line.plan_for(recorded)
            if plan is not None:
                self._lines.insert(0, self._lines.pop(number))
                return plan
        return None


class _Line(NamedTuple):
    """The line through the numbers of two recordings; the numbers of their plans lie on one too.

    Attributes:
        plans: the plans on it.
        start, way: numbers of the first recording, and the differences to the second.
        changing: index of a number that changes.
        lengths: indices of the changing numbers that are lengths of axes.
    """

    plans: PlanLine
    start: NDArray[np.int64]
    way: NDArray[np.int64]
    changing: int
    lengths: NDArray[np.intp]

    def plan_for(self, recorded: Skeleton) -> Plan | None:
        """Return the plan for a recording; None if it cannot be derived.

        That is so if the numbers are off the line, the constants do not match, or a changing axis has a length below
        2, where arrays are laid out in another way.
        """
        numbers = recorded.numbers
        far = numbers - self.start
        p, q = int(far[self.changing]), int(self.way[self.changing])
        if not np.array_equal(far * q, self.way * p) or (numbers[self.lengths] < 2).any():
            return None
        try:
            return self.plans.plan(recorded, p, q)
        except UnknownError:
            return None


def _line(first: _Member, second: _Member) -> _Line | None:
    """Return the line through two members; None if no plan can be derived from them."""
    one, other = first.recorded, second.recorded
    way = other.numbers - one.numbers
    if not way.any() or not _is_straight(one, other):
        return None
    in_shape = np.zeros(len(way), bool)
    for start, stop in one.shapes:
        in_shape[start:stop] = True
    lengths = np.flatnonzero(in_shape & (way != 0))
    if (one.numbers[lengths] < 2).any() or (other.numbers[lengths] < 2).any():
        return None
    try:
        plans = PlanLine(one, other, first.plan, second.plan)
    except UnknownError:
        return None
    return _Line(plans, one.numbers, way, int(np.flatnonzero(way)[0]), lengths)


def _is_straight(first: Skeleton, second: Skeleton) -> bool:
    """Return whether no array has two axes that change: then sizes and offsets are linear in the numbers."""
    changes = (second.numbers != first.numbers).astype(np.intp)
    before = np.concatenate([[0], np.cumsum(changes)])
    return all(before[stop] - before[start] < 2 for start, stop in first.shapes)
