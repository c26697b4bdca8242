"""Nested values: a recurrent state is an array, or any nesting of tuples, lists, dicts and dataclasses of them.

`flatten` lists the leaves in order, `rebuild` puts leaves back into the same nesting, `map_leaves` does both.
`None` is an empty nesting, the state of a cell without one. Named tuples and dataclasses keep their type; parts of a
dict belong together by their keys, whatever their order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from ..errors import ShapeError

Folded = TypeVar("Folded")

Rebuild: TypeAlias = Callable[[Iterator[object]], object]
"""Puts leaves into a nesting."""

DEEPEST = 100
"""The most levels of a nesting; a deeper one contains itself, or is a linked list that should be one array."""

_SEQUENCES, _MAPPINGS = (tuple, list), (dict, Mapping)  # dict: asking an abstract class takes longer


def flatten(nest: object) -> list[Any]:
    """Return the leaves of `nest`, left to right (dicts in insertion order).

    Raises:
        ShapeError: if it is nested deeper than `DEEPEST` levels.

    >>> flatten((1, [2, {"c": 3}], None))
    [1, 2, 3]
    """
    leaves: list[object] = []
    _collect(nest, leaves, DEEPEST)
    return leaves


def _collect(nest: object, leaves: list[object], levels: int) -> None:
    if nest is None:
        return
    parts = _parts(nest, levels)
    if parts is None:
        leaves.append(nest)
    else:
        for part in parts:
            _collect(part, leaves, levels - 1)


def rebuild(nest: object, leaves: Iterator[object]) -> Any:
    """Return a nesting like `nest` whose leaves are taken from `leaves` in order.

    Raises:
        ShapeError: if it is nested deeper than `DEEPEST` levels.
    """
    return _fold(nest, lambda leaf: next(leaves), _like, DEEPEST)


def rebuilder(nest: object) -> Rebuild:
    """Return `rebuild` for one nesting that is made repeatedly, as a function of the leaves.

    >>> rebuilder((1, [2, None]))(iter("ab"))
    ('a', ['b', None])
    """
    return _fold(nest, lambda leaf: next, _maker, DEEPEST)


def _maker(nest: object, parts: Sequence[Rebuild]) -> Rebuild:
    if type(nest) is tuple:
        if all(part is next for part in parts):
            return lambda leaves: tuple(islice(leaves, len(parts)))
        return lambda leaves: tuple([part(leaves) for part in parts])
    return lambda leaves: _like(nest, [part(leaves) for part in parts])


def map_leaves(function: Callable[..., object], nest: object, *others: object) -> Any:
    """Return a nesting like `nest` with `function` applied to each leaf (and to the leaves of `others` beside it).

    Raises:
        ShapeError: if the nestings differ in structure, or are deeper than `DEEPEST` levels. (It is a ValueError.)

    >>> map_leaves(lambda a, b: a + b, (1, {"c": 2, "d": 3}), (10, {"d": 30, "c": 20}))
    (11, {'c': 22, 'd': 33})
    """
    columns = [flatten(nest), *(flatten(aligned(other, nest)) for other in others)]
    return rebuild(nest, iter([function(*row) for row in zip(*columns, strict=True)]))


def aligned(nest: object, model: object) -> object:
    """Return `nest` with the entries of its dicts in the order of those of `model`.

    Raises:
        ShapeError: if the nestings differ in anything else, or are deeper than `DEEPEST` levels.

    >>> aligned({"b": 1, "a": (2,)}, {"a": (3,), "b": 4})
    {'a': (2,), 'b': 1}
    """
    if structure(nest) == structure(model):
        return nest
    made = _reordered(nest, model)
    if structure(made) != structure(model):
        raise ShapeError(f"nestings differ: {structure(model)} and {structure(nest)}")
    return made


def _reordered(nest: object, model: object) -> object:
    """Return `nest` with its dicts in the order of `model`, as far as the two agree."""
    parts, others = (list(_parts(part, DEEPEST) or ()) for part in (nest, model))
    if len(parts) != len(others) or not parts:
        return nest
    if isinstance(nest, _MAPPINGS) and isinstance(model, _MAPPINGS) and nest.keys() == model.keys():
        return {key: _reordered(nest[key], part) for key, part in model.items()}
    return _like(nest, [_reordered(part, other) for part, other in zip(parts, others, strict=True)])


def structure(nest: object) -> str:
    """Return the nesting of `nest` in words, a star for each leaf.

    Raises:
        ShapeError: if it is nested deeper than `DEEPEST` levels.

    >>> structure((1, [2, 3]))
    '(*, [*, *])'
    """
    return _fold(nest, lambda leaf: "*", _in_words, DEEPEST)


def brief(nest: object) -> str:
    """Return a nesting as a `repr` that stays short: arrays by dtype and shape, and of a long list the first parts.

    >>> import numpy as np
    >>> brief({"W": np.zeros((2, 3)), "losses": [1.5] * 30})
    '{W: float64 (2, 3), losses: [1.5, 1.5, 1.5, ... 30 in all]}'
    """
    return _fold(nest, _leaf_in_brief, _in_brief, DEEPEST)


def _leaf_in_brief(leaf: object) -> str:
    return f"{getattr(leaf, 'dtype', '')} {shape}".lstrip() if (shape := getattr(leaf, "shape", None)) else repr(leaf)


def _in_brief(nest: object, parts: Sequence[str]) -> str:
    if names := _field_names(nest):
        return f"{type(nest).__name__}({', '.join(map('{}={}'.format, names, parts))})"
    is_long = not isinstance(nest, Mapping) and len(parts) > 6
    return _in_words(nest, [*parts[:3], f"... {len(parts)} in all"] if is_long else parts)


def named_leaves(name: str, nest: object) -> list[tuple[str, Any]]:
    """Return the leaves of `nest` in the order of `flatten`, each with a name for its position.

    Raises:
        ShapeError: if it is nested deeper than `DEEPEST` levels.

    >>> named_leaves("state", (1, {"c": 2}))
    [('state.0', 1), ('state.1.c', 2)]
    """
    ends = _fold(nest, lambda leaf: [""], _named, DEEPEST)
    return [(name + end if name else end[1:], leaf) for end, leaf in zip(ends, flatten(nest), strict=True)]


def _named(nest: object, parts: Sequence[Sequence[str]]) -> Sequence[str]:
    keys = nest if isinstance(nest, _MAPPINGS) else _field_names(nest) or range(len(parts))
    return [f".{key}{end}" for key, ends in zip(keys, parts, strict=True) for end in ends]


def _fold(
    nest: object, leaf: Callable[[object], Folded], join: Callable[[object, Sequence[Folded]], Folded], levels: int
) -> Folded:
    """Return `leaf(nest)`, or for a nesting `join(nest, results of its parts)`."""
    if nest is None:
        return join(nest, ())
    parts = _parts(nest, levels)
    if parts is None:
        return leaf(nest)
    return join(nest, [_fold(part, leaf, join, levels - 1) for part in parts])


def _parts(nest: object, levels: int) -> Iterable[object] | None:
    """Return the parts of a nesting that may have this many levels; None for a leaf."""
    kind: type = type(nest)
    if not _has_parts(kind):
        return None
    if not levels:
        raise ShapeError(
            f"a nesting of tuples, lists and dicts: expected at most {DEEPEST} levels, got more, or one that contains "
            "itself; put what belongs together into one array"
        )
    if isinstance(nest, _SEQUENCES):
        return nest
    return nest.values() if isinstance(nest, _MAPPINGS) else fields_of(nest).values()


def fields_of(nest: object) -> dict[str, object]:
    """Return the fields of a dataclass of the user's, by name; of anything else, nothing.

    >>> from dataclasses import make_dataclass
    >>> fields_of(make_dataclass("Point", ["x", "y"])(1, 2))
    {'x': 1, 'y': 2}
    """
    kind: type = type(nest)
    return {field.name: getattr(nest, field.name) for field in fields(kind)} if _is_record(kind) else {}


@lru_cache(maxsize=256)
def _has_parts(kind: type) -> bool:
    """Return whether this is the type of a nesting, and not that of a leaf."""
    return _is_record(kind) or issubclass(kind, _SEQUENCES) or issubclass(kind, Mapping)


@lru_cache(maxsize=256)
def _is_record(kind: type) -> bool:
    """Return whether this is a dataclass of the user's; those of this library, such as policies, are leaves."""
    own = kind.__module__.partition(".")[0] == __package__.partition(".")[0]
    return is_dataclass(kind) and bool(fields(kind)) and not own


def _field_names(nest: object) -> tuple[str, ...]:
    """Return the names of the parts of a dataclass or a named tuple; () for others."""
    return tuple(fields_of(nest)) or tuple(getattr(nest, "_fields", ()))


def _like(nest: object, parts: Sequence[object]) -> object:
    if nest is None:
        return None
    if isinstance(nest, tuple):
        named: Callable[..., object] | None = type(nest) if hasattr(nest, "_fields") else None
        return tuple(parts) if named is None else named(*parts)
    if isinstance(nest, list):
        return list(parts)
    if isinstance(nest, _MAPPINGS):
        return dict(zip(nest, parts, strict=True))
    made = copy.copy(nest)
    for name, part in zip(_field_names(nest), parts, strict=True):
        object.__setattr__(made, name, part)  # a dataclass may be frozen
    return made


def _in_words(nest: object, parts: Sequence[str]) -> str:
    if nest is None:
        return "None"
    if isinstance(nest, tuple):
        return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
    if isinstance(nest, list):
        return f"[{', '.join(parts)}]"
    if isinstance(nest, Mapping):
        return "{" + ", ".join(f"{key}: {part}" for key, part in zip(nest, parts, strict=True)) + "}"
    return f"{type(nest).__name__}({', '.join(map('{}={}'.format, _field_names(nest), parts))})"
