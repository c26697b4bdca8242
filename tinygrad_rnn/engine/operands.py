"""Operands and attributes of a call: Tensors, arrays and other numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np

from ..errors import DTypeError
from .arrays import as_numbers
from .tape import Attributes, context
from .tensor import Operand, Tensor, Value, described
from .tree import flatten, named_leaves

Result = TypeVar("Result")


def operand(value: object, function: str, name: str) -> Value:
    """Return a Tensor or an array as it is, and other numbers (lists, tables) as an array.

    The names of the argument and of the function that the user called are for the message.

    Raises:
        DTypeError: if the values are not numbers.
        UnsupportedError: if it is a list of recorded Tensors, which `stack` joins.
    """
    if isinstance(value, Tensor) or (type(value) is np.ndarray and value.dtype.kind in "fiubc"):
        return value
    return as_numbers(value, f"{function}: {name}")


_PLAIN = (Tensor, np.ndarray, np.generic, int, float, complex, str, np.random.Generator)


def check_nest(nest: object, function: str, name: str) -> None:
    """Raise `DTypeError` if a part of a state is an object of another kind: cuts and masks would pass by what it holds.

    The names of the argument and of the function that the user called are for the message.
    """
    if all(isinstance(part, _PLAIN) for part in flatten(nest)):  # names take longer, and are needed for the message
        return
    place, odd = next((place, part) for place, part in named_leaves(name, nest) if not isinstance(part, _PLAIN))
    raise DTypeError(
        f"{function}: {place} is {described(odd)}, which may hold arrays that are not seen; expected arrays and "
        "numbers, in a nesting of tuples, lists, dicts and dataclasses"
    )


def as_value(x: Operand) -> Value:
    """Return a Tensor or an array as it is, and numbers and lists of them as an array."""
    return x if isinstance(x, Tensor | np.ndarray) else np.asarray(x)


def without_gradient(name: str, function: Callable[..., Result], *args: object, repeatable: bool = True) -> Result:
    """Return `function(*args)`, computed on arrays: a comparison, a check of ids, a draw.

    While `compile` records, the result is a Tensor, and the function is called again at each replay of the plan.

    Args:
        name: for messages and drawings.
        function: of arrays (and other objects, such as a generator) that returns an array.
        args: Tensors, arrays and other objects.
        repeatable: whether it gives the same result for the same arguments.
    """
    tracer = context().tracer
    if tracer is not None:
        return cast(Result, tracer.constant(name, function, args, repeatable))  # a Tensor computes like an array
    return function(*(value._array if isinstance(value, Tensor) else value for value in args))


def has_tensor(attrs: Attributes) -> bool:
    """Return whether an attribute is a Tensor, such as ids that a recorded function looks up in a constant."""
    return any(
        isinstance(part, Tensor) for value in attrs.values() for part in (value if type(value) is tuple else (value,))
    )


def arrays_in(attrs: Attributes) -> Attributes:
    """Return attributes with arrays in place of Tensors, also inside an index."""
    return {name: tuple(map(_array, part)) if type(part) is tuple else _array(part) for name, part in attrs.items()}


def _array(part: object) -> object:
    return part._array if isinstance(part, Tensor) else part
