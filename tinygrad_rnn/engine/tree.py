"""Nested values: a recurrent state is an array, or any nesting of tuples, lists and dicts of them.

`flatten` lists the leaves in order, `rebuild` puts leaves back into the same nesting, `map_leaves` does both.
`None` is an empty nesting, so that a cell without a state is one too. Named tuples keep their type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def flatten(nest: Any) -> list[Any]:
    """Return the leaves of `nest`, left to right (dicts in insertion order).

    >>> flatten((1, [2, {"c": 3}], None))
    [1, 2, 3]
    """
    if nest is None:
        return []
    if isinstance(nest, tuple | list):
        return [leaf for part in nest for leaf in flatten(part)]
    if isinstance(nest, Mapping):
        return [leaf for part in nest.values() for leaf in flatten(part)]
    return [nest]


def rebuild(nest: Any, leaves: Iterator[Any]) -> Any:
    """Return a nesting like `nest` whose leaves are taken from `leaves` in order."""
    if nest is None:
        return None
    if isinstance(nest, tuple):
        parts = [rebuild(part, leaves) for part in nest]
        return type(nest)(*parts) if hasattr(nest, "_fields") else tuple(parts)
    if isinstance(nest, list):
        return [rebuild(part, leaves) for part in nest]
    if isinstance(nest, Mapping):
        return {key: rebuild(part, leaves) for key, part in nest.items()}
    return next(leaves)


def map_leaves(function: Callable[..., Any], nest: Any, *others: Any) -> Any:
    """Return a nesting like `nest` with `function` applied to each leaf (and to the leaves of `others` beside it).

    Raises:
        ValueError: if the nestings differ in structure.

    >>> map_leaves(lambda a, b: a + b, (1, (2, 3)), (10, (20, 30)))
    (11, (22, 33))
    """
    for other in others:
        if structure(other) != structure(nest):
            raise ValueError(f"nestings differ: {structure(nest)} and {structure(other)}")
    columns = [flatten(nest), *(flatten(other) for other in others)]
    return rebuild(nest, iter([function(*row) for row in zip(*columns, strict=True)]))


def structure(nest: Any) -> str:
    """Return the nesting of `nest` in words, a star for each leaf.

    >>> structure((1, [2, 3]))
    '(*, [*, *])'
    """
    if nest is None:
        return "None"
    if isinstance(nest, tuple):
        inner = ", ".join(structure(part) for part in nest)
        return f"({inner},)" if len(nest) == 1 else f"({inner})"
    if isinstance(nest, list):
        return "[" + ", ".join(structure(part) for part in nest) + "]"
    if isinstance(nest, Mapping):
        return "{" + ", ".join(f"{key}: {structure(part)}" for key, part in nest.items()) + "}"
    return "*"
