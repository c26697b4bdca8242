"""A plan that is ready for calls: from arguments to inputs, from outputs to results. Each call goes through here."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import cast
from weakref import ref

import numpy as np

from ...engine.tape import Array, context
from ...engine.tensor import Tensor
from ...engine.tree import flatten, map_leaves, rebuilder
from ..ir.graph import Graph
from ..plans.family import Family
from ..recording.arguments import Arguments
from ..recording.trace import ARRAY, Recorded
from .executor import Executor, Input
from .shortcut import Shortcut, written

INPUTS = Tensor, np.ndarray, np.random.Generator
"""Types of arguments that are inputs of a plan; others are a part of the signature."""


_OFTEN = 4  # calls after which a shortcut is generated, which takes as long as about ten of them


class ForkSafeLock:
    """A lock; `current` is that of this process. A fork makes its own: a thread of the parent may hold the old one."""

    def __init__(self) -> None:
        self.current, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if not self.current.acquire(blocking=False):
            if self._process != os.getpid():
                self.current, self._process = threading.RLock(), os.getpid()
            self.current.acquire()

    def __exit__(self, *error: object) -> None:
        self.current.release()


class Ready:
    """A bound plan, and what is needed to call it with arguments. It keeps no arguments alive."""

    references: tuple[ref[object], ...] = ()  # to the objects that its signature tells apart by identity

    def __init__(self, recorded: Recorded, executor: Executor, args: Arguments, family: Family, is_first: bool) -> None:
        self.executor, self.outside, self.family, self.is_first = executor, recorded.outside, family, is_first
        self._captured = recorded.captured
        self.shortcut: Shortcut | None = None
        self._calls = 0
        given = flatten(args)
        places = {id(leaf): _Argument(n) for n, leaf in enumerate(given) if isinstance(leaf, np.random.Generator)}
        result = recorded.result
        if places:
            result = map_leaves(lambda part: places.get(id(part), part), result)
        self._recorded = recorded._replace(graph=Graph([], [], []), result=result)  # nothing of this call, no graph
        self._others = [(number, part) for number, part in enumerate(flatten(result)) if part is not ARRAY]
        self._rebuilt = rebuilder(result)
        self._inputs = [number for number, leaf in enumerate(given) if isinstance(leaf, INPUTS)]
        self._all_inputs = len(self._inputs) == len(given)
        of_caller = [isinstance(given[number], np.ndarray) for number in self._inputs]
        self._views = [self._inputs[n] for n in executor.wide if n < len(of_caller) and of_caller[n]]

    def replayed(self, args: Arguments, leaves: list[object], lock: ForkSafeLock) -> object:
        """Return the result of a call; after some calls, a shortcut is generated for calls like it."""
        made = self.run(leaves)
        self._calls += 1
        if self._calls == _OFTEN:
            recording, fast_path = context().recording, self.executor.fast_path()
            self.shortcut = written(args, recording, lock.current, self._recorded, fast_path)
        return made

    def arrays(self, leaves: list[object]) -> list[Input]:
        """Return the inputs of the plan: of the call, then those that the function uses from outside.

        Large read-only arrays of the caller's are passed as views: they may become writable again, so an executor must
        not take one for an array that it has copied before.
        """
        found = [*leaves]
        for number in self._views:
            if not (array := cast(Array, found[number])).flags.writeable:
                found[number] = array.view()
        if not self._all_inputs:
            found = [found[number] for number in self._inputs]
        found += [part._array if isinstance(part, Tensor) else part for part in self._captured]
        return cast("list[Input]", found)

    def run(self, leaves: list[object]) -> object:
        """Replay the plan, and return what the function returns."""
        made: list[object] = [*self.executor.run(self.arrays(leaves))]
        for number, part in self._others:  # no arrays: generators of this call, or what the function returned
            made.insert(number, leaves[part.number] if isinstance(part, _Argument) else part)
        return self._rebuilt(iter(made))


@dataclass(frozen=True)
class _Argument:
    """A placeholder in a result for an argument of the call."""

    number: int
