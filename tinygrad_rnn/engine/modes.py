"""Modes: settings that hold within a `with` statement, or within each call of a function that they decorate.

A mode may be entered again, while it is open or later, also in other threads and tasks: the previous setting is kept
in the new setting, not in the mode.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Generic, ParamSpec, Protocol, Self, TypeVar, cast

from ..errors import ConfigError

F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
Result = TypeVar("Result")
Sent = TypeVar("Sent")
Item = TypeVar("Item")


class Setting(Protocol):
    """The value of a context variable, with a reference to the value that it replaced."""

    @property
    def outer(self) -> Self | None:
        """The previous value, or None."""


S = TypeVar("S", bound=Setting)


class Mode(ABC, Generic[S]):
    """Base of context managers that can also decorate functions, generators, coroutines and asynchronous generators.

    A decorated generator runs in the mode; the code that takes its items does not, and keeps its own settings.
    """

    __slots__ = ("_variable",)

    def __init__(self, variable: ContextVar[S]) -> None:
        self._variable = variable

    @abstractmethod
    def changed(self, now: S) -> S:
        """Return the setting within the mode; its `outer` is `now`."""

    def __enter__(self) -> None:
        self._variable.set(self.changed(self._variable.get()))

    def __exit__(self, *error: object) -> None:
        before = self._variable.get().outer
        if before is not None:  # a generator may be closed in another thread, where it was never entered
            self._variable.set(before)

    def __call__(self, function: F) -> F:
        """Return `function` so that each call of it runs in the mode.

        Raises:
            ConfigError: if it is not a function, but a class or a result.
        """
        if isinstance(function, staticmethod | classmethod):
            return cast(F, type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise ConfigError(
                f"decorator: expected a function, got {function!r}; decorate the methods of a class one by one, and "
                "write a statement as `with mode(): ...`"
            )
        if inspect.isasyncgenfunction(function):
            return cast(F, self._async_generator(function))
        if inspect.iscoroutinefunction(function):
            return cast(F, self._coroutine(function))
        if inspect.isgeneratorfunction(function):
            return cast(F, self._generator(function))
        return cast(F, self._function(function))

    def _function(self, function: Callable[P, Result]) -> Callable[P, Result]:
        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> Result:
            with self:
                return function(*args, **kwargs)

        return inside

    def _coroutine(self, function: Callable[P, Awaitable[Result]]) -> Callable[P, Awaitable[Result]]:
        @wraps(function)
        async def inside(*args: P.args, **kwargs: P.kwargs) -> Result:
            with self:
                return await function(*args, **kwargs)

        return inside

    def _generator(self, function: Callable[P, Generator[Item, Sent, Result]]) -> Callable[P, Iterator[Item]]:
        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> Generator[Item, Sent, Result]:
            items, stay = function(*args, **kwargs), _Stay(self)
            resume: Callable[..., Item] = items.send
            value: object = None
            while True:
                try:
                    with stay:
                        item = resume(value)
                except StopIteration as end:
                    return cast(Result, end.value)
                try:
                    resume, value = items.send, (yield item)
                except GeneratorExit:
                    with stay:
                        items.close()
                    raise
                except BaseException as error:
                    resume, value = items.throw, error

        return inside

    def _async_generator(self, function: Callable[P, AsyncGenerator[Item, Sent]]) -> Callable[P, AsyncIterator[Item]]:
        @wraps(function)
        async def inside(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Item, Sent]:
            items, stay = function(*args, **kwargs), _Stay(self)
            resume: Callable[..., Awaitable[Item]] = items.asend
            value: object = None
            while True:
                try:
                    with stay:
                        item = await resume(value)
                except StopAsyncIteration:
                    return
                try:
                    resume, value = items.asend, (yield item)
                except GeneratorExit:
                    with stay:
                        await items.aclose()
                    raise
                except BaseException as error:
                    resume, value = items.athrow, error

        return inside


class _Stay(Generic[S]):
    """The setting inside a generator, from one of its items to the next."""

    def __init__(self, mode: Mode[S]) -> None:
        self._mode = mode
        self._variable = mode._variable
        self._inside: S | None = None
        self._outside = mode._variable.get()

    def __enter__(self) -> None:
        self._outside = self._variable.get()
        self._variable.set(self._mode.changed(self._outside) if self._inside is None else self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = self._variable.get()
        self._variable.set(self._outside)
