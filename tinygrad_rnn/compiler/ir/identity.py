"""Identity of functions: one that is created anew at each call is compared by its code and the values it captures."""

from __future__ import annotations

from functools import partial
from types import CellType, FunctionType, MethodType


class Same:
    """A key that is equal only for the same object, which it keeps alive so that its id is not reused."""

    __slots__ = ("part",)

    def __init__(self, part: object) -> None:
        self.part = part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.part is self.part

    def __hash__(self) -> int:
        return id(self.part)


def code_and_captures(function: object) -> tuple[object, tuple[object, ...]] | None:
    """Return (key of a function's code, values that it captures); None for a callable that is not written in Python.

    >>> def times(n):
    ...     return lambda x: x * n
    >>> code_and_captures(times(2))[0] == code_and_captures(times(3))[0], code_and_captures(times(2))[1]
    (True, ((), (2,), ()))
    """
    if isinstance(function, partial):
        return partial, (function.func, function.args, tuple(sorted(function.keywords.items())))
    if isinstance(function, MethodType):
        return Same(function.__func__), (Same(function.__self__),)
    if not isinstance(function, FunctionType):
        return None
    held = tuple(map(_held, function.__closure__ or ()))
    named = tuple(sorted((function.__kwdefaults__ or {}).items()))
    return (function.__code__, id(function.__globals__)), (function.__defaults__ or (), held, named)


def _held(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return Same(cell)
