"""Shortcuts: Python functions that are generated for calls with the same signature as earlier ones.

A shortcut has a line for each argument instead of a loop over them. It checks that the nesting, types, shapes and
dtypes are those of the signature, copies inputs to where the plan reads them, replays the plan, and copies results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import RLock
from typing import cast

import numpy as np

from ...engine.tensor import Tensor
from ...engine.tree import fields_of, flatten
from ..recording.arguments import Arguments
from ..recording.signature import of_value
from ..recording.trace import ARRAY, Recorded
from .executor import FastPath

OTHER = object()
"""What a shortcut returns for a call that has another signature."""

Shortcut = Callable[[tuple[object, ...], dict[str, object], bool, Callable[[list[object]], object]], object]
"""From positional and named arguments, whether gradients are recorded, and what replays the plan with the leaves of the
arguments, to the result of the call, or `OTHER`."""

_VALUES = bool, int, float, complex, str, bytes, np.generic


def written(
    args: Arguments,
    recording: bool,
    lock: RLock,
    recorded: Recorded,
    fast_path: FastPath | None,
) -> Shortcut | None:
    """Return the shortcut for calls that have the signature of this one; None if a kind of argument is not supported.

    Args:
        args: positional and named arguments.
        recording: whether gradients are recorded.
        lock: held during a replay; if another thread holds it, the shortcut returns `OTHER`.
        recorded: the function.
        fast_path: the fast path of a replay; None: there is none.
    """
    positional, named = args
    source = _Source()
    names = f"tuple(named) == {tuple(named)!r}" if named else "not named"
    try:
        source.unless(f"recording is {recording} and len(positional) == {len(positional)} and {names}")
        source.parts("positional", positional, "p")
        source.parts("named.values()", [*named.values()], "n")
    except _RareError:
        return None
    checks, source.lines = source.lines, []
    if not recorded.outside.is_empty:
        source.unless(f"{source.called(recorded.outside.changed)}() is None")
    parts = flatten(recorded.result)
    is_plain = all(part is ARRAY for part in parts) and all(isinstance(part, Tensor) for part in recorded.captured)
    if fast_path is None or not is_plain:
        source.lines.append(f"return run([{', '.join(source.leaves)}])")
    else:
        source.replay(fast_path, recorded)
    taken = [f"if not {source.called(lock)}.acquire(False): return other", "try:"]
    held = [*(f"    {line}" for line in source.lines), "finally:", f"    {source.called(lock)}.release()"]
    text = "\n    ".join(["def shortcut(positional, named, recording, run):", *checks, *taken, *held])
    exec(compile(text, f"<shortcut of {len(text)} characters>", "exec"), source.objects)
    return cast(Shortcut, source.objects["shortcut"])


class _RareError(Exception):
    """An argument is of a kind that shortcuts do not support."""


class _Source:
    """The lines of a function, and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.objects: dict[str, object] = {"other": OTHER, "Tensor": Tensor, "ndarray": np.ndarray, "key": of_value}
        self.leaves: list[str] = []
        self.kinds: list[type] = []
        self._generators = 0

    def called(self, part: object) -> str:
        """Return a name for an object."""
        name = f"k{len(self.objects)}"
        self.objects[name] = part
        return name

    def unless(self, condition: str) -> None:
        """Return `OTHER` unless this holds."""
        self.lines.append(f"if not ({condition}): return other")

    def parts(self, name: str, parts: Sequence[object], prefix: str) -> None:
        """Check the parts of a sequence of known length."""
        names = [f"{prefix}_{number}" for number in range(len(parts))]
        if parts:
            self.lines.append(f"{', '.join(names)}, = {name}")
        for inner, part in zip(names, parts, strict=True):
            self.argument(inner, part)

    def argument(self, name: str, part: object) -> None:
        """Check an argument."""
        kind = type(part)
        if isinstance(part, tuple | list):
            self.unless(f"type({name}) is {self.called(kind)} and len({name}) == {len(part)}")
            self.parts(name, part, name)
        elif type(part) is dict and all(type(inner) is str for inner in part):
            self.unless(f"type({name}) is dict and tuple({name}) == {tuple(part)!r}")
            self.parts(f"{name}.values()", [*part.values()], name)
        elif part is None:
            self.unless(f"{name} is None")
        else:
            self.leaves.append(name)
            self.kinds.append(kind)
            self._leaf(name, part)

    def _leaf(self, name: str, part: object) -> None:
        if type(part) is Tensor:
            node = part._node
            if node is not None and node.operation is not None:
                raise _RareError
            known = f"{name}._node is None" if node is None else f"{name}._node and {name}._node.id == {node.id}"
            self.unless(f"type({name}) is Tensor and {known}")
            self.lines.append(f"{name} = {name}._array")
            self._array(name, part._array)
        elif type(part) is np.ndarray:
            self.unless(f"type({name}) is ndarray")
            self._array(name, part)
        elif isinstance(part, np.random.Generator) and not self._generators:
            self._generators += 1
            self.unless(f"type({name}) is {self.called(type(part))}")
        elif isinstance(part, _VALUES):
            self.unless(f"type({name}) is {self.called(type(part))} and key({name}) == {self.called(of_value(part))}")
        else:
            raise _RareError

    def _array(self, name: str, array: np.ndarray) -> None:
        self.unless(f"{name}.shape == {array.shape!r} and {name}.dtype == {self.called(array.dtype)}")

    def replay(self, fast_path: FastPath, recorded: Recorded) -> None:
        """Copy inputs, replay, and return copies of results."""
        pairs = zip(self.leaves, self.kinds, strict=True)
        inputs = [(name, kind is np.ndarray) for name, kind in pairs if kind in (Tensor, np.ndarray)]
        inputs += [(f"{self.called(part)}._array", False) for part in recorded.captured]
        self.unless(f"not {self.called(fast_path.beside)}.used")
        for number, place, copy in fast_path.wide:
            (name, is_own), known = inputs[number], self.called(copy)
            if is_own:  # it may have been written to since the last call
                self.lines += [f"{known}.last = None", f"{self.called(place)}[...] = {name}"]
            else:
                self.unless(f"{known}.last and {known}.last() is {name}")
        self.lines += [f"{self.called(place)}[...] = {inputs[number][0]}" for number, place in fast_path.narrow]
        self.lines += [f"{self.called(function)}(*{self.called(operands)})" for function, operands in fast_path.calls]
        results = iter([f"{self.called(array)}.copy()" for array in fast_path.results])
        self.lines.append(f"return {self._text(recorded.result, results)}")

    def _text(self, nest: object, results: Iterator[str]) -> str:
        """Return the source of an expression that makes a nesting."""
        if nest is ARRAY:
            return next(results)
        if isinstance(nest, dict | Mapping):
            return "{" + ", ".join(f"{self.called(name)}: {self._text(nest[name], results)}" for name in nest) + "}"
        if fields_of(nest):
            raise _RareError
        if not isinstance(nest, tuple | list):
            return "None"
        parts = "".join(f"{self._text(part, results)}, " for part in nest)
        if isinstance(nest, list):
            return f"[{parts}]"
        return f"{self.called(type(nest))}({parts})" if hasattr(nest, "_fields") else f"({parts})"
