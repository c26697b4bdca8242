"""Sums over processes that begin while the plan of the gradients still goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import numpy as np

from ...compiler.passes.early import HAND_OVER
from ...compiler.plans.instructions import Instruction, Loop
from ...compiler.plans.plan import Plan
from ...engine.operands import without_gradient
from ...engine.tape import Array, context
from ...engine.tensor import Value
from ...parallel.group import Group
from ...parallel.sums import Sum

Result = TypeVar("Result")
_LEAST = 1 << 18  # bytes; less is sent sooner than another thread can be relied on to be there


class Link:
    """What a plan hands vectors to: their sums begin at once.

    Args:
        group: the processes.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._begun: list[tuple[str, Array, Sum]] = []
        self.wanted: dict[str, Array] = {}  # one like each vector

    def begin(self, name: str, vector: Array) -> None:
        """Begin the sum of a vector."""
        self._begun.append((name, vector, self._group.begin_add(vector)))

    def kept(self, compute: Callable[[], Result]) -> Result:
        """Return what is computed; if that ends with an error, begin the sums that it did not, as others wait for them.

        Raises:
            Exception: what `compute` raised.
        """
        try:
            return compute()
        except Exception:
            begun = {name for name, _, _ in self._begun}
            for name, like in self.wanted.items():
                if name not in begun:
                    self.begin(name, np.zeros_like(like))
            raise

    def finished(self) -> dict[str, Array]:
        """Wait for all sums that have begun, and return them by name.

        Raises:
            LostError: if a process has died.
        """
        begun, self._begun = self._begun, []
        for _, _, one in begun:
            self._group.finish(one)
        return {name: vector for name, vector, _ in begun}


def hand_over(vector: Value, link: Link, name: str) -> Value:
    """Hand a vector to a link as soon as it is there, in each replay of the plan; return a number that says nothing."""
    return without_gradient(HAND_OVER, _begin, vector, link, name, repeatable=False)


def _begin(vector: Array, link: Link, name: str) -> Array:
    if context().tracer is None:  # otherwise it is being recorded
        link.begin(name, vector)
    return np.zeros(1)


def made_before_the_end(plan: Plan, vector: int, places: Mapping[str, tuple[int, int]]) -> Collection[str]:
    """Return the parameters whose gradients are there before the last loop of a plan begins, the backward one.

    Args:
        plan: of gradients in one vector.
        vector: number of the result that it is.
        places: parameter to first and last byte in the vector.
    """
    buffer = plan.outputs[vector].buffer
    loops = [number for number, part in enumerate(plan.instructions) if isinstance(part, Loop)]
    last = dict.fromkeys(places, -1)
    for number, part in enumerate(plan.instructions):
        turn: tuple[Instruction, ...] = part.instructions if isinstance(part, Loop) else (part,)
        for slot in (slot for one in turn for slot in one.outputs if slot.buffer is buffer):
            low, high = (slot.offset + end for end in slot.extent())
            for name, (start, stop) in places.items():
                if low < stop and start < high:
                    last[name] = number
    early = [name for name, number in last.items() if loops and 0 <= number < loops[-1]]
    return early if sum(places[name][1] - places[name][0] for name in early) >= _LEAST else []
