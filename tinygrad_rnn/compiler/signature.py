"""The signature of a call: what a plan is made for, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import ref

import numpy as np

from ..engine.tape import context
from ..engine.tensor import Tensor
from ..engine.tree import flatten
from ..errors import TraceError


def signature(args: Any) -> tuple[Any, list[Any]]:
    """Return what a plan is made for, and the leaves of the arguments.

    It is the nesting, shapes and dtypes, which parameters and generators are the same ones, and all that is no array.
    Nothing that has a state is kept alive by it.

    Raises:
        TraceError: if an argument cannot be compared with that of another call.
    """
    found = _Signature()
    try:
        found.describe(args)
    except RecursionError:
        flatten(args)  # says what is too deep
        raise
    return tuple(found.key), found.leaves


class _Signature:
    def __init__(self) -> None:
        self.key: list[Any] = [context().recording]
        self.leaves: list[Any] = []
        self._numbers: dict[Any, int] = {}  # of generators and of places in a graph, in the order in which they come

    def describe(self, part: Any) -> None:
        kind = type(part)
        if part is None:
            self.key.append(None)
        elif isinstance(part, tuple | list):
            self.key += (kind, len(part))
            for inner in part:
                self.describe(inner)
        elif isinstance(part, Mapping):
            self.key += (kind, *map(_of_value, part))
            for inner in part.values():
                self.describe(inner)
        else:
            self.leaves.append(part)
            self.key += self._of_leaf(part)

    def _of_leaf(self, part: Any) -> tuple[Any, ...]:
        if isinstance(part, Tensor):
            return part._array.shape, part._array.dtype, self._of_place(part)
        if isinstance(part, np.ndarray):
            return part.shape, part.dtype, None if type(part) is np.ndarray else type(part)
        if isinstance(part, np.random.Generator):
            return type(part), self._number(id(part))
        return _of_value(part)

    def _of_place(self, tensor: Tensor) -> Any:
        """Return the id of a parameter, and of a result of something recorded whether it comes twice."""
        node = tensor._node
        if node is None:
            return None
        return node.id if node.operation is None else ("recorded", self._number((node.id, tensor._index)))

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _of_value(part: Any) -> tuple[Any, ...]:
    """Return what tells values apart that are frozen in a plan: 1 from True and 1.0, 0.0 from -0.0."""
    kind: Any = type(part)
    if isinstance(part, np.generic):
        return kind, part.dtype, part.tobytes()
    if isinstance(part, float):
        return kind, float.hex(part)
    if isinstance(part, complex):
        return kind, float.hex(part.real), float.hex(part.imag)
    if isinstance(part, slice):
        return kind, *map(_of_value, (part.start, part.stop, part.step))
    if isinstance(part, tuple | frozenset):
        return kind, kind(map(_of_value, part)) if kind in (tuple, frozenset) else part
    try:
        hash(part)
    except TypeError:
        raise TraceError(
            f"compile: an argument of type {kind.__name__} cannot be part of a signature; pass arrays, Tensors, "
            "generators, numbers, strings, None, or nestings of them"
        ) from None
    by_identity = (kind.__hash__, kind.__eq__) == (object.__hash__, object.__eq__)
    return kind, ref(part) if by_identity and kind.__weakrefoffset__ else part


def is_over(key: tuple[Any, ...]) -> bool:
    """Return whether no call can have a signature any more, as an object in it is gone."""
    return any(isinstance(part, ref) and part() is None for part in key)
