"""A function that is compiled where possible, and called directly otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np

from ...checks import flag
from ...compiler.api import Compiled, compile
from ...engine.tape import context, no_grad
from ...engine.tensor import Tensor
from ...engine.tree import flatten, map_leaves
from ...errors import NativeError, warn

Result = TypeVar("Result")
Plan: TypeAlias = Compiled[..., object]
_IN_A_ROW = 4  # calls on arguments of one shape that each needed a plan of their own


class Replayed(Generic[Result]):
    """A function without gradients, compiled; one that cannot be compiled is called directly, and a warning says why.

    If a plan cannot be made or fails, the function itself is called: its error, if it raises one, is the one that the
    caller sees; otherwise its result is returned, in this call and in all later ones. The same applies to a function
    that would need a new plan for each call, because its arguments have another shape or another number each time.

    Args:
        name: the function that the user called, for messages.
        function: takes and returns what `compile` takes. It is called in `no_grad`.
        compiled: False: call it directly, without a warning.
        executor, threads: as in `compile`.

    Attributes:
        compiled: the compiled function; None: the function is called directly.
        reason: why it could not be compiled; None: it could, or was not tried yet.

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
        function: Callable[..., Result],
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

    def __call__(self, *args: object) -> Result:
        """Return what the function returns, with arrays for its Tensors."""
        if context().tracer is not None:  # part of another plan
            return _noted(self._mark, self._function, *args)
        if self.compiled is None:
            return self._as_it_is(args)
        self._mark.recorded = False
        try:
            result = cast(Result, self.compiled(*args))
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

    def _as_it_is(self, args: tuple[object, ...]) -> Result:
        with no_grad():
            return cast(Result, map_leaves(array_of, self._function(*args)))

    def _count(self, shapes: list[tuple[int, ...]]) -> None:
        """Count the calls in a row that were recorded, and stop compiling after a few."""
        self._row = self._row + 1 if shapes == self._shapes else 1
        self._shapes = shapes
        if self._row == _IN_A_ROW:
            self._give_up(
                f"{_IN_A_ROW} calls in a row each needed a plan of their own: the state has another shape, or holds "
                "another number, each time; keep a counter in an array, and keep the shape"
            )

    def _give_up(self, reason: str) -> None:
        if self.compiled is not None:
            self.compiled, self.reason = None, reason
            warn(
                f"{self._name}: it runs operation by operation, which is slower, as it cannot be compiled: {reason}",
            )


@dataclass
class _Mark:
    """Whether a function has been recorded; apart from `Replayed`, as a cycle would keep plans alive."""

    recorded: bool = False


def _noted(mark: _Mark, function: Callable[..., Result], *args: object) -> Result:
    mark.recorded = True
    with no_grad():
        return function(*args)


def array_of(part: object) -> object:
    """Return the array of a Tensor, and any other part of a result unchanged."""
    return part.data if isinstance(part, Tensor) else part
