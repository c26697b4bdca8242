"""The pattern of one call: whether the next has the same signature, in few operations for each argument."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import numpy as np

from ...engine.tensor import Tensor
from .arguments import Arguments
from .signature import Key, Numbers, of_generator, of_value

_LAYOUT = attrgetter("shape", "dtype")
_EMPTY = type(None)
_SEQUENCES = tuple, list


class Pattern:
    """The arguments of one call, as `signature` tells them apart.

    Args:
        args: positional and named arguments of a call that has a signature.
        recording: whether gradients are recorded.
    """

    def __init__(self, args: Arguments, recording: bool) -> None:
        positional, named = args
        self._recording, self._count, self._names = recording, len(positional), tuple(named)
        self._nestings: list[tuple[int, type, object]] = []  # place, type, and length, or the names in a dict
        self._is_known = True
        flat: list[object] = [*positional, *named.values()]
        place = 0
        while place < len(flat):
            part = flat[place]
            if isinstance(part, tuple | list):
                self._nestings.append((place, type(part), len(part)))
                flat[place : place + 1] = part
            elif type(part) is dict and all(type(name) is str for name in part):
                self._nestings.append((place, dict, tuple(part)))
                flat[place : place + 1] = part.values()
            else:
                self._is_known &= _is_plain(part)
                place += 1
        self._kinds = [*map(type, flat)]
        self._tensors = [(place, _node(part)) for place, part in enumerate(flat) if isinstance(part, Tensor)]
        self._arrays = [place for place, kind in enumerate(self._kinds) if kind is Tensor or kind is np.ndarray]
        known = (Tensor, np.ndarray, _EMPTY)
        self._others = [place for place, kind in enumerate(self._kinds) if kind not in known]
        self._has_empty = _EMPTY in self._kinds
        self._layouts = [_LAYOUT(flat[place]) for place in self._arrays]
        self._values = self._keys(flat) if self._is_known else []

    def leaves(self, args: Arguments, recording: bool) -> list[object] | None:
        """Return the leaves of a call as `signature` does; None if its signature is another, or may be."""
        positional, named = args
        if not self._is_known or recording is not self._recording or len(positional) != self._count:
            return None
        flat: list[object] = [*positional]
        if named or self._names:
            if tuple(named) != self._names:
                return None
            flat += named.values()
        if not self._unfold(flat):
            return None
        if [*map(type, flat)] != self._kinds:
            return None
        for place, node in self._tensors:
            tensor = flat[place]
            assert isinstance(tensor, Tensor)
            if (tensor._node and tensor._node.id) != node:
                return None
            flat[place] = tensor._array
        arrays = flat if len(self._arrays) == len(flat) else [flat[place] for place in self._arrays]
        if [*map(_LAYOUT, arrays)] != self._layouts or (self._others and self._keys(flat) != self._values):
            return None
        return [part for part in flat if part is not None] if self._has_empty else flat

    def _unfold(self, flat: list[object]) -> bool:
        """Put the parts of nestings in their places; return whether the nestings are the same."""
        for place, kind, parts in self._nestings:
            nest = flat[place]
            if type(nest) is not kind:
                return False
            if isinstance(nest, _SEQUENCES) and len(nest) == parts:
                flat[place : place + 1] = nest
            elif isinstance(nest, dict) and tuple(nest) == parts:
                flat[place : place + 1] = nest.values()
            else:
                return False
        return True

    def _keys(self, flat: list[object]) -> list[Key]:
        """Return what tells apart what is no array."""
        places: Numbers = {}
        parts = [flat[place] for place in self._others]
        return [of_generator(one, places) if isinstance(one, np.random.Generator) else of_value(one) for one in parts]


def _node(tensor: Tensor) -> int | None:
    return None if tensor._node is None else tensor._node.id


def _is_plain(part: object) -> bool:
    """Return whether an argument has a place in a pattern; what is rare has none, and its calls take longer."""
    if isinstance(part, Tensor):
        return type(part) is Tensor and (part._node is None or part._node.operation is None)
    return type(part) is np.ndarray or not isinstance(part, np.ndarray | Mapping)
