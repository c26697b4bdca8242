"""Values as JSON and arrays, without pickle: states, settings, generators, in any nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...errors import ConfigError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Plain: TypeAlias = object
"""None, booleans, numbers, strings, arrays, Tensors, generators, and lists, tuples and dicts of them."""


def encoded(
    value: Plain, arrays: dict[str, Array], where: str, special: Callable[[object, str], Json] | None = None
) -> Json:
    """Return a value as JSON; its arrays are added to `arrays`, and the JSON refers to them by name.

    Args:
        value: what `decoded` will return.
        arrays: gets the arrays, under new names.
        where: name of the value, for messages and for the names of arrays.
        special: called with any other value: returns its JSON, a dict with one key, or None.

    Raises:
        ConfigError: if something in it is neither plain nor special.

    >>> arrays = {}
    >>> encoded((1, [np.zeros(2), None]), arrays, "state"), [*arrays]
    ({'tuple': [1, [{'array': 'state.1.0'}, None]]}, ['state.1.0'])
    """
    if value is None or (isinstance(value, bool | int | float | str) and type(value) in (bool, int, float, str)):
        return value
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        parts = [encoded(part, arrays, f"{where}.{place}", special) for place, part in enumerate(value)]
        return parts if type(value) is list else {"tuple": parts}
    if isinstance(value, Mapping):
        keys = [encoded(key, arrays, where, special) for key in value]
        parts = [encoded(part, arrays, f"{where}.{key}", special) for key, part in value.items()]
        return {"dict": [[key, part] for key, part in zip(keys, parts, strict=True)]}
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _array(value, arrays, where)
    if isinstance(value, np.random.Generator):
        return {"generator": encoded(_state_of(value), arrays, where, special)}
    found = None if special is None else special(value, where)
    if found is None:
        raise ConfigError(
            f"{where} is of type {type(value).__name__}, which cannot be written to a file; numbers, "
            "texts, arrays, generators, and lists, tuples and dicts of them can be written"
        )
    return found


def decoded(value: Json, arrays: Mapping[str, Array], special: Callable[[str, Json], object] | None = None) -> Plain:
    """Return the value that `encoded` has written.

    Args:
        value: the JSON.
        arrays: by name.
        special: returns the object that the encoder's `special` has written, from its key and JSON.

    >>> decoded({"tuple": [1, [{"array": "x"}, None]]}, {"x": np.zeros(2)})
    (1, [array([0., 0.]), None])
    """
    if isinstance(value, list):
        return [decoded(part, arrays, special) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(decoded(part, arrays, special) for part in cast(list[Json], content))
    if kind == "dict":
        pairs = cast(list[tuple[Json, Json]], content)
        return {decoded(key, arrays, special): decoded(part, arrays, special) for key, part in pairs}
    if kind == "array":
        return arrays[cast(str, content)]
    if kind == "scalar":
        return arrays[cast(str, content)][()]
    if kind == "generator":
        return _generator(cast(dict[str, Plain], decoded(content, arrays, special)))
    if special is None:
        raise ConfigError(f"a file holds a {kind}, which is not expected there")
    return special(kind, content)


def _array(value: Tensor | Array | np.generic, arrays: dict[str, Array], where: str) -> Json:
    array = value.data if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.hasobject:
        raise ConfigError(f"{where} is an array of objects, which cannot be written to a file")
    while where in arrays:  # a key may hold a dot
        where += "'"
    arrays[where] = array
    return {"scalar" if isinstance(value, np.generic) else "array": where}


def _state_of(generator: np.random.Generator) -> dict[str, Plain]:
    return dict(generator.bit_generator.state)


def _generator(state: dict[str, Plain]) -> np.random.Generator:
    kind = getattr(np.random, str(state["bit_generator"]), None)
    if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
        raise ConfigError(f"a file holds the state of an unknown generator, {state['bit_generator']!r}")
    made = kind()
    made.state = state
    return np.random.Generator(made)
