"""Plans for any length: how the numbers of a plan depend on the numbers of the function that was recorded.

A function that is called with another length is recorded again. That takes a few milliseconds, as a loop is recorded
once, and shows what the function does with this length, whatever its Python code makes of it. If it differs from two
earlier recordings only in numbers (lengths, sizes, indices), and the three lie on one line, then so do the numbers of
their plans: each is a + b * length, as no array has two axes that change. The new plan is an old one with other
numbers: no pass runs, and only the arena is laid out.

Everything else must be the same: operators, operands, dtypes, constants; see `between`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

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
        self._lines: list[PlanLine] = []  # through two members each; the one used last comes first

    def add(self, recorded: Skeleton, plan: Plan) -> None:
        """Add the plan that passes have made of a recording."""
        new = _Member(recorded, plan)
        lines = [line for other in reversed(self._members) if (line := _line(other, new)) is not None]
        self._lines = [*lines, *self._lines][:_LINES]
        self._members = [*self._members[1 - _MEMBERS :], new]

    def plan_for(self, recorded: Skeleton) -> Plan | None:
        """Return the plan for a recording, or None if it cannot be derived."""
        for number, line in enumerate(self._lines):
            with suppress(UnknownError):
                plan = line.plan(recorded)
                self._lines.insert(0, self._lines.pop(number))
                return plan
        return None


def _line(first: _Member, second: _Member) -> PlanLine | None:
    """Return the line through two members; None if no plan can be derived from them."""
    with suppress(UnknownError):
        return PlanLine(first.recorded, second.recorded, first.plan, second.plan)
    return None
