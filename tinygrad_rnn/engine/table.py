"""The table from NumPy functions to their implementations on Tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from ..errors import UnsupportedError
from .refused import INSTEAD

Function: TypeAlias = Callable[..., Any]
"""A function of NumPy, or one that implements it; the table holds functions of all signatures."""

_F = TypeVar("_F", bound=Function)

TABLE: dict[Function, Function] = {}
"""For reading; `implements` writes to it."""


def implements(*functions: Function) -> Callable[[_F], _F]:
    """Return a decorator that makes a function of this package the implementation of NumPy `functions` on Tensors."""

    def register(implementation: _F) -> _F:
        for function in functions:
            TABLE[function] = implementation
        return implementation

    return register


def supported() -> Mapping[Function, Function]:
    """Return a copy of the table from NumPy functions to their implementations on Tensors."""
    return dict(TABLE)


def unsupported(name: str) -> UnsupportedError:
    """Return the error for a NumPy function that does not take Tensors, with what to write instead."""
    instead = INSTEAD.get(name.removeprefix("np."))
    advice = "write it with the functions of tinygrad_rnn" if instead is None else f"in its place: {instead}"
    return UnsupportedError(
        f"{name}: has no derivative rule for Tensors, so its gradient would be lost; {advice}; "
        "or apply it to x.data if no gradient is wanted"
    )
