"""The signature of a call: everything that a plan depends on, as a key."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import ref

import numpy as np

from ...engine.tape import context
from ...engine.tensor import Tensor
from ...engine.tree import fields_of, flatten
from ...errors import TraceError

Key = tuple[object, ...]
Numbers = dict[object, int]


def signature(args: object) -> tuple[Key, list[object]]:
    """Return the key of a call, which a plan is made for, and the leaves of the arguments, with arrays for Tensors.

    The key holds the nesting, shapes and dtypes, which parameters and generators are the same ones, and all arguments
    that are no arrays. It keeps nothing alive that has a state.

    Raises:
        TraceError: if an argument is not hashable.
    """
    key: list[object] = [context().recording]
    leaves: list[object] = []
    try:
        _describe(args, key, leaves, {})
    except RecursionError:
        flatten(args)  # raises an error that says what is too deep
        raise
    return tuple(key), leaves


def _describe(part: object, key: list[object], leaves: list[object], places: Numbers) -> None:
    """Append the key of an argument, and its leaves.

    `places` numbers generators and recorded results in the order of their first occurrence, as they may occur twice.
    """
    if isinstance(part, Tensor):
        leaves.append(part._array)
        key += (part._array.shape, part._array.dtype, part._node and of_place(part, places))
    elif isinstance(part, np.ndarray):
        leaves.append(part)
        key += (part.shape, part.dtype, None if type(part) is np.ndarray else type(part))
    elif isinstance(part, tuple | list):
        key += (type(part), len(part))
        for inner in part:
            _describe(inner, key, leaves, places)
    elif isinstance(part, dict | Mapping):  # dict first: a test for Mapping takes a microsecond
        key += (type(part), *[name if type(name) is str else of_value(name) for name in part])
        for inner in part.values():
            _describe(inner, key, leaves, places)
    elif part is None:
        key.append(None)
    elif parts := fields_of(part):
        key.append(type(part))
        for inner in parts.values():
            _describe(inner, key, leaves, places)
    else:
        leaves.append(part)
        key += of_generator(part, places) if isinstance(part, np.random.Generator) else of_value(part)


def of_place(tensor: Tensor, places: Numbers) -> object:
    """Return the id of a parameter, or the number of a recorded result."""
    node = tensor._node
    assert node is not None
    return node.id if node.operation is None else ("recorded", places.setdefault((node.id, tensor._index), len(places)))


def of_generator(part: np.random.Generator, places: Numbers) -> Key:
    """Return the key of a generator: its type, and its number, as two arguments may be the same one."""
    return type(part), places.setdefault(id(part), len(places))


def of_value(part: object) -> Key:
    """Return the key of a value that is frozen in a plan: it tells 1 from True and 1.0, and 0.0 from -0.0."""
    kind = type(part)
    if isinstance(part, np.generic):
        return kind, part.dtype, part.tobytes()
    if isinstance(part, float):
        return kind, float.hex(part)
    if isinstance(part, complex):
        return kind, float.hex(part.real), float.hex(part.imag)
    if isinstance(part, slice):
        return kind, *map(of_value, (part.start, part.stop, part.step))
    if isinstance(part, tuple | frozenset):
        return kind, kind(map(of_value, part)) if kind in (tuple, frozenset) else part
    try:
        hash(part)
    except TypeError:
        raise TraceError(
            f"compile: an argument of type {kind.__name__} cannot be part of a signature, as it is not hashable; pass "
            "arrays, Tensors, generators, numbers, strings, None, or tuples, lists, dicts and dataclasses of them"
        ) from None
    by_identity = (kind.__hash__, kind.__eq__) == (object.__hash__, object.__eq__)
    return kind, ref(part) if by_identity and kind.__weakrefoffset__ else part


def references(key: Key) -> tuple[ref[object], ...]:
    """Return the weak references in a signature, to objects that are compared by identity."""
    return tuple([part for part in key if isinstance(part, ref)])


def is_over(references: tuple[ref[object], ...]) -> bool:
    """Return whether an object of these references is gone, so that no call can have their signature any more."""
    return any(part() is None for part in references)
