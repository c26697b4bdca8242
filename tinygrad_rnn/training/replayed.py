"""A function that is compiled where it can be, and called as it is where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..checks import flag
from ..compiler.api import Compiled, compile
from ..engine.tape import context, no_grad
from ..engine.tensor import Tensor
from ..engine.tree import flatten, map_leaves
from ..errors import NativeError

Nest: TypeAlias = Any
"""What a function takes and returns: arrays, Tensors and other values, in any nesting."""
Plan: TypeAlias = Compiled[..., Nest]
_IN_A_ROW = 4  # calls on arguments of one shape that each needed a plan of their own


class Replayed:
    """A function without gradients, compiled; where it cannot be compiled, it runs as it is, and a warning says why.

    Whatever goes wrong in a plan, the function itself has the last word: if it raises too, its error is the one that
    the caller sees; if it returns, that is the result, of this call and of all that follow. So it is, too, with a
    function that would need a plan for each call, since what it is given has another shape, or another number in it,
    each time.

    Args:
        name: what the user called, for messages.
        function: takes and returns what `compile` takes. It is called in `no_grad`.
        compiled: False: call it as it is, without a warning.
        executor, threads: as in `compile`.

    Attributes:
        compiled: the compiled function; None: it is called as it is.
        reason: why it could not be compiled; None: nobody has found out that it could not.

    Raises:
        ConfigError: if a setting is out of range.
        NativeError: when called, if executor="native" and there is no C library.

    >>> import numpy as np
    >>> half = Replayed("half", lambda x: x / 2)
    >>> half(np.ones(2)), half.reason
    (array([0.5, 0.5]), None)
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Nest],
        *,
        compiled: bool = True,
        executor: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._name, self._function = name, function
        self._mark = _Mark()
        noted = partial(_noted, self._mark, function)  # in plain sight, so that what the function names is found
        made = compile(noted, executor=executor, threads=threads)
        self.compiled: Plan | None = made if flag(name, "compiled", compiled) else None
        self.reason: str | None = None
        self._row = 0
        self._shapes: list[tuple[int, ...]] = []

    def __call__(self, *args: Nest) -> Nest:
        """Return what the function returns, with arrays for its Tensors."""
        if context().tracer is not None:  # part of another plan
            return _noted(self._mark, self._function, *args)
        if self.compiled is None:
            return self._as_it_is(args)
        self._mark.recorded = False
        try:
            result = self.compiled(*args)
        except NativeError:
            raise
        except Exception as error:
            result = self._as_it_is(args)
            self._give_up(str(error) or type(error).__name__)
        if self._mark.recorded:
            self._count([np.shape(part) for part in flatten(args[0])])
        else:
            self._row = 0
        return result

    def _as_it_is(self, args: tuple[Nest, ...]) -> Nest:
        with no_grad():
            return map_leaves(array_of, self._function(*args))

    def _count(self, shapes: list[tuple[int, ...]]) -> None:
        """Take note of a call that was recorded, and give up after some in a row."""
        self._row = self._row + 1 if shapes == self._shapes else 1
        self._shapes = shapes
        if self._row == _IN_A_ROW:
            self._give_up(
                f"{_IN_A_ROW} calls in a row each needed a plan of their own: the state has another shape, or holds "
                "another number, each time; keep a counter in an array, and the shape as it is"
            )

    def _give_up(self, reason: str) -> None:
        if self.compiled is not None:
            self.compiled, self.reason = None, reason
            warnings.warn(
                f"{self._name}: it runs operation by operation, which is slower, as it cannot be compiled: {reason}",
                stacklevel=4,
            )


@dataclass
class _Mark:
    """Whether a function has been recorded. It knows nothing of what replays it: no cycle keeps plans alive."""

    recorded: bool = False


def _noted(mark: _Mark, function: Callable[..., Nest], *args: Nest) -> Nest:
    mark.recorded = True
    with no_grad():
        return function(*args)


def array_of(part: Nest) -> Nest:
    """Return the array of a Tensor, and what else is in a result as it is."""
    return part.data if isinstance(part, Tensor) else part
