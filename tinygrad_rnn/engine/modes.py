"""Modes: settings that hold within a `with` statement, or within each call of a function that they decorate.

One mode may be entered again, while it is open or later, in other threads and tasks too: what was set before stands in
the setting itself, not in the mode.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from ..errors import ConfigError

_F = TypeVar("_F", bound=Callable[..., Any])


class Setting(Protocol):
    """The value of a context variable: it knows the one that it replaced."""

    @property
    def outer(self) -> Any:
        """Return what was set before, or None."""


class Mode(ABC):
    """Base of context managers that are decorators too, of functions, generators, coroutines and their mixture.

    A decorated generator runs in the mode, and whoever takes its items does not: it goes on with the settings that it
    had, and gives back those of the caller.
    """

    __slots__ = ("_variable",)

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    @abstractmethod
    def changed(self, now: Any) -> Setting:
        """Return what is set within the mode; its `outer` is `now`."""

    def __enter__(self) -> None:
        self._variable.set(self.changed(self._variable.get()))

    def __exit__(self, *error: object) -> None:
        before = self._variable.get().outer
        if before is not None:  # a generator may be closed in another thread, where it was never entered
            self._variable.set(before)

    def __call__(self, function: _F) -> _F:
        """Return `function`, each call of which runs in the mode.

        Raises:
            ConfigError: if it is no function: a class, a result.
        """
        if isinstance(function, staticmethod | classmethod):
            return cast(_F, type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise ConfigError(
                f"decorator: expected a function, got {function!r}; decorate the methods of a class one by one, and "
                "write a statement as `with mode(): ...`"
            )
        if inspect.isasyncgenfunction(function):
            return cast(_F, self._async_generator(function))
        if inspect.iscoroutinefunction(function):
            return cast(_F, self._coroutine(function))
        if inspect.isgeneratorfunction(function):
            return cast(_F, self._generator(function))
        return cast(_F, self._function(function))

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return inside

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            items, stay = function(*args, **kwargs), _Stay(self)
            resume, value = items.send, None
            while True:
                try:
                    with stay:
                        item = resume(value)
                except StopIteration as end:
                    return end.value
                try:
                    resume, value = items.send, (yield item)
                except GeneratorExit:
                    with stay:
                        items.close()
                    raise
                except BaseException as error:
                    resume, value = items.throw, error

        return inside

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def inside(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            items, stay = function(*args, **kwargs), _Stay(self)
            resume, value = items.asend, None
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


class _Stay:
    """What is set inside a generator, from one of its items to the next."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._variable = mode._variable
        self._inside: Any = None
        self._outside: Any = None

    def __enter__(self) -> None:
        self._outside = self._variable.get()
        self._variable.set(self._mode.changed(self._outside) if self._inside is None else self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = self._variable.get()
        self._variable.set(self._outside)
