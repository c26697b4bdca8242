"""Warnings about functions that are recorded often: they name what differs between the signatures of two calls.

A plan is quick and recording is slow, so a function that is recorded again and again is slower than eager
execution. Nothing here runs when a call is replayed: signatures are described when a function is recorded.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ...engine.tape import Array, context
from ...engine.tensor import Tensor
from ...engine.tree import fields_of
from ...errors import warn
from .arguments import Arguments, parameters_of
from .signature import Numbers, of_generator, of_place, of_value

_OFTEN = 3  # changes of arrays from outside until a warning
_MOST = 3  # differences that are named
_RECORDING = "whether gradients are recorded"


class Aspect(NamedTuple):
    """One thing that a signature says of a part of the arguments: a key, which is compared, in words, and advice."""

    key: object
    words: str
    advice: str = ""


class Part(NamedTuple):
    """What a signature says of a part of the arguments: in words, and by name (shape, dtype, "" for itself)."""

    words: str
    aspects: dict[str, Aspect]


class Recordings:
    """The count of the recordings of a function, with a warning, once for each cause, when there are many.

    Args:
        function: that is recorded.
        most: recordings for different signatures without a warning: as many as the plans that are kept.
    """

    def __init__(self, function: Callable[..., object], most: int) -> None:
        self._function, self._most = function, most
        self._count = self._changes = 0
        self._last: dict[str, Part] = {}

    def outside(self, shape: tuple[int, ...]) -> None:
        """Count a change of an array from outside, of this shape, since the function was recorded."""
        self._changes += 1
        self._count -= 1  # the recording that follows is not due to a signature
        if self._changes == _OFTEN:
            warn(
                f"compile: an array of shape {shape} that {_name(self._function)} uses from outside has changed before "
                f"{_OFTEN} calls, and each time the function was recorded anew, which is slow; pass the array as an "
                "argument",
                RuntimeWarning,
            )

    def recorded(self, args: Arguments) -> None:
        """Count a recording of the function for these positional and named arguments."""
        self._count += 1
        if self._count > self._most + 1:
            return  # the warning has been given
        before, self._last = self._last, parts_of(args, self._function)
        if self._count == self._most + 1:
            self._last, found = {}, differences(before, self._last)
            warn(
                f"compile: {_name(self._function)} has been recorded {self._count} times, for another signature each "
                f"time or for one whose plan is not kept any more (max_plans={self._most}), which is slow; changes "
                f"since the last time: {'; '.join(found[:_MOST])}"
                + (f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""),
                RuntimeWarning,
            )


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


# -- signatures in words ----------------------------------------------------------------------------------------------


def differences(before: Mapping[str, Part], now: Mapping[str, Part]) -> list[str]:
    """Return the differences between two signatures in words, from their descriptions by `parts_of`.

    >>> import numpy as np
    >>> one, two = (parts_of(((np.ones(n), 0.1 * n), {})) for n in (1, 2))
    >>> differences(one, two)[0]
    'args[0]: shape (1,) -> (2,) (loop over time with tr.scan, which serves any length, or pad, or raise max_plans)'
    """
    found = []
    for path in before:  # a part that only one of them has is named by the nesting around it
        if path in now:
            one, two = before[path], now[path]
            found += [f"{path}: {words}" for words in _changes(one, two)]
    return found


def _changes(before: Part, now: Part) -> list[str]:
    if before.aspects.keys() != now.aspects.keys():
        return [f"{before.words} -> {now.words}"]
    found = []
    for name, one in before.aspects.items():
        two = now.aspects[name]
        if one.key == two.key:
            continue
        words = f"{one.words} -> {two.words}" if one.words != two.words else f"{one.words}, and now a different one"
        found.append(f"{name} {words}".lstrip() + (f" ({two.advice})" if two.advice else ""))
    return found


def parts_of(args: Arguments, function: Callable[..., object] | None = None) -> dict[str, Part]:
    """Return the signature of each part of a call's arguments, by its path, such as `params["w"]`.

    It keeps nothing alive that has a state.

    Args:
        args: positional and named arguments.
        function: whose parameters name the positional ones; None: they are args[0], args[1], ...
    """
    positional, named = args
    recording = context().recording
    found = {
        _RECORDING: _part(str(recording), recording),
        "positional arguments": _part(str(len(positional)), len(positional)),
        "named arguments": _part(str(list(named)), tuple(named)),
    }
    names = [] if function is None else parameters_of(function).positional
    places: Numbers = {}
    for number, part in enumerate(positional):
        _add(found, names[number] if number < len(names) else f"args[{number}]", part, places)
    for name, part in named.items():
        _add(found, name, part, places)
    return found


def _add(found: dict[str, Part], path: str, part: object, places: Numbers) -> None:
    """Describe a part of the arguments and those inside it, in the order of `signature`."""
    if isinstance(part, Tensor | np.ndarray):
        found[path] = _array(part, places)
    elif isinstance(part, tuple | list):
        kind = type(part)
        found[path] = _part(f"a {kind.__name__} of {len(part)}", (kind, len(part)))
        for number, inner in enumerate(part):
            _add(found, f"{path}[{number}]", inner, places)
    elif isinstance(part, Mapping):
        names = [name if type(name) is str else of_value(name) for name in part]
        found[path] = _part(f"a {type(part).__name__} of {reprlib.repr(list(part))}", (type(part), *names))
        for name, inner in part.items():
            _add(found, f'{path}["{name}"]' if isinstance(name, str) else f"{path}[{name!r}]", inner, places)
    elif parts := fields_of(part):
        found[path] = _part(f"a {type(part).__name__}", type(part))
        for name, inner in parts.items():
            _add(found, f"{path}.{name}", inner, places)
    elif part is None:
        found[path] = _part("None", None)
    elif isinstance(part, np.random.Generator):
        found[path] = _part("a Generator", of_generator(part, places))
    else:
        found[path] = _value(part)


def _part(words: str, key: object, advice: str = "") -> Part:
    return Part(words, {"": Aspect(key, words, advice)})


def _array(part: Tensor | Array, places: Numbers) -> Part:
    array = part._array if isinstance(part, Tensor) else part
    shape = Aspect(
        array.shape,
        str(array.shape),
        "loop over time with tr.scan, which serves any length, or pad, or raise max_plans",
    )
    dtype = Aspect(array.dtype, str(array.dtype))
    if isinstance(part, Tensor):
        key: object = None if part._node is None else of_place(part, places)
        words = "a Tensor without a gradient" if key is None else "a Tensor that requires a gradient"
    else:
        key = None if type(part) is np.ndarray else type(part)
        words = "an array" if key is None else f"a {type(part).__name__}"
    return Part(
        f"{words}, shape {array.shape}, dtype {array.dtype}",
        {"shape": shape, "dtype": dtype, "": Aspect(key, words)},
    )


def _value(part: object) -> Part:
    key = of_value(part)
    if isinstance(part, bool | int | float | complex | np.generic):
        return _part(repr(part), key, "pass it as np.asarray(...), which is read anew at each call")
    by_identity = getattr(type(part), "__repr__", None) == object.__repr__
    return _part(f"an object of type {type(part).__name__}" if by_identity else reprlib.repr(part), key)
