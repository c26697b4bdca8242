"""Arguments of a compiled function: the names of its parameters, and which of them are donated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from ...checks import instance
from ...engine.tree import flatten
from ...errors import ConfigError

Arguments = tuple[tuple[object, ...], dict[str, object]]
"""Positional and named arguments of a call."""

_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD


def checked(function: Callable[..., object], donate: Collection[str | int] | str | int) -> frozenset[str | int]:
    """Return the names and positions in `donate`, checked against the parameters of the function.

    Raises:
        ConfigError: if the function has no such argument.
    """
    wanted = frozenset(
        (donate,) if isinstance(donate, str | int) else instance("compile", "donate", donate, Collection)
    )
    names, more, named, known = parameters_of(function)
    for part in wanted:
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise ConfigError(f"compile: donate must hold names or positions of arguments, got {part!r}")
        fits = part in named if isinstance(part, str) else 0 <= part < len(names) or (more and part >= 0)
        if known and not fits:
            raise ConfigError(
                f"compile: donate names {part!r}, but {getattr(function, '__qualname__', type(function).__qualname__)} "
                f"takes {', '.join(named) or 'no arguments'}; give some of these names, or positions from 0 on"
            )
    return wanted


class Parameters(NamedTuple):
    """The names of positional parameters, whether there may be more, the names of all, and whether these are known."""

    positional: list[str]
    more: bool
    named: Collection[str]
    known: bool


class _AnyName(list[str]):
    """Names of parameters of a function that takes **kwargs: any other name is one too."""

    def __contains__(self, name: object) -> bool:
        return True


def parameters_of(function: Callable[..., object]) -> Parameters:
    """Return the parameters of a function."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function in C
        return Parameters([], True, [], False)
    kinds = {one.kind for one in parameters}
    positional = [one.name for one in parameters if one.kind in _POSITIONAL]
    named = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    any_name = inspect.Parameter.VAR_KEYWORD in kinds
    more = inspect.Parameter.VAR_POSITIONAL in kinds
    return Parameters(positional, more, _AnyName(named) if any_name else named, True)


def donated_leaves(parameters: Parameters, donate: Collection[str | int], args: Arguments) -> set[int]:
    """Return the places of the leaves of donated arguments among the leaves of all arguments."""
    if not donate:
        return set()
    found: set[int] = set()
    for names, _, numbers in arguments_of(parameters, args):
        if not names.isdisjoint(donate):
            found.update(numbers)
    return found


def arguments_of(parameters: Parameters, args: Arguments) -> Iterator[tuple[frozenset[str | int], object, range]]:
    """Yield each argument: its name and position, its value, and the numbers of its leaves among those of all."""
    positional, named = args
    names = parameters.positional
    number = 0
    pairs: list[tuple[str | int, object]] = [*enumerate(positional), *named.items()]
    for place, part in pairs:
        other: Sequence[str | int] = ()
        if isinstance(place, int):
            other = names[place : place + 1]
        elif place in names:
            other = (names.index(place),)
        count = len(flatten(part))
        yield frozenset[str | int]((place, *other)), part, range(number, number + count)
        number += count
