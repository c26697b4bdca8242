"""Signatures of functions that are derived from primitives: they return a Tensor for Tensors, an array for arrays.

Each of these decorators is `implements` with a signature. The function is written once, for either kind of operand;
a type checker sees one overload for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol, cast, overload

from .table import Function, implements
from .tape import Array
from .tensor import Operand, Tensor, Value
from .types import Numbers

P = ParamSpec("P")


class Unary(Protocol[P]):
    """A function of one operand."""

    @overload
    def __call__(self, x: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: Numbers, /, *args: P.args, **kwargs: P.kwargs) -> Array: ...


class Binary(Protocol[P]):
    """A function of two operands."""

    @overload
    def __call__(self, a: Tensor, b: Operand, /, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, a: Operand, b: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, a: Numbers, b: Numbers, /, *args: P.args, **kwargs: P.kwargs) -> Array: ...


class Joining(Protocol[P]):
    """A function that makes one value of several."""

    @overload
    def __call__(self, xs: Sequence[Tensor], /, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, xs: Sequence[Numbers], /, *args: P.args, **kwargs: P.kwargs) -> Array: ...
    @overload
    def __call__(self, xs: Sequence[Operand], /, *args: P.args, **kwargs: P.kwargs) -> Value: ...


class Splitting(Protocol[P]):
    """A function that makes several values of one."""

    @overload
    def __call__(self, x: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(self, x: Numbers, /, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, ...]: ...


def unary(*functions: Function) -> Callable[[Callable[Concatenate[Operand, P], Value]], Unary[P]]:
    """Return a decorator of a function of one operand that implements NumPy `functions` on Tensors."""

    def decorate(function: Callable[Concatenate[Operand, P], Value]) -> Unary[P]:
        return cast(Unary[P], implements(*functions)(function))

    return decorate


def binary(*functions: Function) -> Callable[[Callable[Concatenate[Operand, Operand, P], Value]], Binary[P]]:
    """Return a decorator of a function of two operands that implements NumPy `functions` on Tensors."""

    def decorate(function: Callable[Concatenate[Operand, Operand, P], Value]) -> Binary[P]:
        return cast(Binary[P], implements(*functions)(function))

    return decorate


def joining(*functions: Function) -> Callable[[Callable[Concatenate[Sequence[Operand], P], Value]], Joining[P]]:
    """Return a decorator of a function that joins operands, and implements NumPy `functions` on Tensors."""

    def decorate(function: Callable[Concatenate[Sequence[Operand], P], Value]) -> Joining[P]:
        return cast(Joining[P], implements(*functions)(function))

    return decorate


def splitting(
    *functions: Function,
) -> Callable[[Callable[Concatenate[Operand, P], Sequence[Value]]], Splitting[P]]:
    """Return a decorator of a function that splits an operand, and implements NumPy `functions` on Tensors."""

    def decorate(function: Callable[Concatenate[Operand, P], Sequence[Value]]) -> Splitting[P]:
        return cast(Splitting[P], implements(*functions)(function))

    return decorate
