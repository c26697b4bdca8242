"""Plans for any length: how the numbers of a plan depend on the numbers of the function that was recorded.

A function that is called with another length is recorded anew. That takes a few milliseconds, as a loop is recorded
once, and shows what the function does with this length, whatever its Python code makes of it. If only numbers differ
from two recordings before (lengths, sizes, indices), and the three lie on one line, then so do the numbers of their
plans: each is a + b * length, as no array has two axes that change. The new plan is an old one with other numbers: no
pass runs, and only the arena is laid out.

All else must be the same: operators, operands, dtypes, constants. A constant, or a floating point number, that does
depend on the length (a mask, 1 / T) is recognized among what was recorded, and taken from there.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ir.graph import Value
from .memory import Memory
from .plan import Plan
from .skeleton import Skeleton, is_number, plan_like, plan_skeleton

_MEMBERS = 3  # recordings of which lines are made with the next one
_LINES = 4  # that are kept: of lengths at the usual batch size, and at that of the last batch, for instance


class _Member(NamedTuple):
    """A recording, and the plan that passes made of it."""

    recorded: Skeleton
    plan: Plan
    planned: Skeleton


class Family:
    """Plans of recordings that have the same form.

    `add` what the passes made for the first lengths; from the third on `plan_for` needs no pass.

    Attributes:
        memory: what their executors share.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self._members: list[_Member] = []  # the newest
        self._lines: list[_Line] = []  # through two members each; the one used last comes first

    def add(self, recorded: Skeleton, plan: Plan) -> None:
        """Take note of a plan that was made of a recording."""
        new = _Member(recorded, plan, plan_skeleton(plan, recorded))
        lines = [line for other in reversed(self._members) if (line := _line(other, new)) is not None]
        self._lines = [*lines, *self._lines][:_LINES]
        self._members = [*self._members[1 - _MEMBERS :], new]

    def plan_for(self, recorded: Skeleton) -> Plan | None:
        """Return the plan for a recording, or None if the numbers of it do not say what it is."""
        for number, line in enumerate(self._lines):
            plan = line.plan_for(recorded)
            if plan is not None:
                self._lines.insert(0, self._lines.pop(number))
                return plan
        return None


class _Line(NamedTuple):
    """The line through the numbers of two recordings, and that through the numbers of their plans.

    Attributes:
        first, second: the recordings.
        start, way: numbers of the first recording, and what they change by to the second.
        changing: one that changes.
        lengths: which of those that change are lengths of axes.
        planned: what the numbers of the plans change by.
    """

    first: _Member
    second: _Member
    start: NDArray[np.int64]
    way: NDArray[np.int64]
    changing: int
    lengths: NDArray[np.intp]
    planned: NDArray[np.int64]

    def place(self, numbers: NDArray[np.int64]) -> tuple[int, int] | None:
        """Return (p, q): the numbers of a recording are those of the first and p / q of the way to the second.

        None: they do not lie on the line, or an axis that changes has a length below 2, where arrays are laid out in
        another way.
        """
        far = numbers - self.start
        p, q = int(far[self.changing]), int(self.way[self.changing])
        if not np.array_equal(far * q, self.way * p) or (numbers[self.lengths] < 2).any():
            return None
        return p, q

    def plan_for(self, recorded: Skeleton) -> Plan | None:
        """Return the plan for a recording; None if it does not lie on the line, or is not known from the two."""
        place = self.place(recorded.numbers)
        if place is None:
            return None
        first, second = self.first, self.second
        try:
            known = _Known(first.recorded, second.recorded, recorded, place)
            reals = [known.part(*pair) for pair in zip(first.planned.reals, second.planned.reals, strict=True)]
            values = zip(first.planned.values, second.planned.values, strict=True)
            arrays = zip(first.planned.arrays, second.planned.arrays, strict=True)
            constants = [known.constant(*pair, *kept) for pair, kept in zip(values, arrays, strict=True)]
        except _UnknownError:
            return None
        numbers = first.planned.numbers + self.planned * place[0] // place[1]
        found = first.planned._replace(numbers=numbers, reals=tuple(reals), arrays=tuple(constants))
        return plan_like(first.plan, found, first.recorded, recorded)


def _line(first: _Member, second: _Member) -> _Line | None:
    """Return the line through two members; None if others do not lie on it."""
    (one, plan), (other, again) = (first.recorded, first.planned), (second.recorded, second.planned)
    way = other.numbers - one.numbers
    if not way.any() or plan.form != again.form or not (_is_straight(one, other) and _is_straight(plan, again)):
        return None
    in_shape = np.zeros(len(way), bool)
    for start, stop in one.shapes:
        in_shape[start:stop] = True
    lengths = np.flatnonzero(in_shape & (way != 0))
    if (one.numbers[lengths] < 2).any() or (other.numbers[lengths] < 2).any():
        return None
    return _Line(first, second, one.numbers, way, int(np.flatnonzero(way)[0]), lengths, again.numbers - plan.numbers)


def _is_straight(first: Skeleton, second: Skeleton) -> bool:
    """Return whether no array has two axes that change: then sizes and places in memory change evenly with each."""
    changes = (second.numbers != first.numbers).astype(np.intp)
    before = np.concatenate([[0], np.cumsum(changes)])
    return all(before[stop] - before[start] < 2 for start, stop in first.shapes)


class _UnknownError(Exception):
    """A number does not follow from the recorded ones."""


class _Known:
    """What a number or a constant of two plans is in a third: it follows from what was recorded for each of them."""

    def __init__(self, first: Skeleton, second: Skeleton, third: Skeleton, place: tuple[int, int]) -> None:
        self._place = place
        operators = zip(first.operators, second.operators, third.operators, strict=True)
        self._operators = {id(one): (other, new) for one, other, new in operators}
        self._parts: dict[Any, Any] = {}
        for kind in ("reals", "arrays"):
            rows = list(zip(*(getattr(one, kind) for one in (first, second, third)), strict=True))
            keys = [tuple(map(_key, row)) for row in rows]
            # Passes look for zeros and ones, and for what is equal: so it must be for this length, too.
            for row, (one, other, new) in zip(rows, keys, strict=True):
                known, _ = self._parts.setdefault((one, other), (new, row[2]))
                if known != new or one == other != new or (one != other and len(set(map(_sort, row))) > 1):
                    raise _UnknownError

    def part(self, one: Any, other: Any) -> Any:
        """Return what an operand is."""
        kind = type(one)
        if kind is not type(other):
            raise _UnknownError
        if kind is Value:
            return self.constant(one, other, one.constant, other.constant)
        if is_number(one) and is_number(other):
            return one + (other - one) * self._place[0] // self._place[1]
        if kind is tuple or kind is list:
            return kind(self.part(*pair) for pair in zip(one, other, strict=True))
        if kind is float or isinstance(one, np.ndarray):
            return self._recorded(one, other)
        if one is not other and one != other:
            raise _UnknownError
        return one

    def constant(self, one: Value | None, other: Value | None, array: Any, second: Any) -> Any:
        """Return the array of a constant: as it was recorded, or computed anew as it was computed in advance."""
        if one is None or other is None or one.folded is None or other.folded is None:
            return self._recorded(array, second)
        (call, index), (again, _) = one.folded, other.folded
        like, operator = self._operators.get(id(call.operator), (again.operator, call.operator))
        if like.key != again.operator.key or operator.name != like.name or len(call.inputs) != len(again.inputs):
            raise _UnknownError
        inputs = [self.part(*pair) for pair in zip(call.inputs, again.inputs, strict=True)]
        attrs = {name: self.part(part, again.attrs.get(name)) for name, part in call.attrs.items()}
        with np.errstate(all="ignore"):
            return np.array(operator.results(operator.compute(*inputs, **attrs))[index])

    def _recorded(self, one: Any, other: Any) -> Any:
        keys = _key(one), _key(other)
        found = self._parts.get(keys)
        if found is None and keys[0] == keys[1]:
            return one  # a pass has put it in, whatever the length
        if found is None:
            raise _UnknownError
        if not isinstance(one, np.ndarray):
            return found[1]
        shape = self.part(one.shape, other.shape)  # others of the same bytes may have another one
        if math.prod(shape) != found[1].size:
            raise _UnknownError
        return np.ascontiguousarray(found[1]).reshape(shape)


def _sort(part: Any) -> str:
    """Return whether a float, or an array, is all zeros, all ones, or neither."""
    array = np.asarray(part)
    if not array.any():
        return "zeros"
    return "ones" if (array == 1).all() else "others"


def _key(part: Any) -> Any:
    """Return what tells floats and constants apart: 0.0 from -0.0, and arrays by their bytes, whatever their shape."""
    if not isinstance(part, np.ndarray):
        return float.hex(part)
    if part.size and not any(part.strides):  # one element everywhere
        return part.dtype, part.size, part[(0,) * part.ndim].tobytes()
    return part.dtype, part.size, part.tobytes()
