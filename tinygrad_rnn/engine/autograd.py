"""`grad`: gradients as values, without side effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np

from ..checks import flag
from ..errors import GradientError
from .tape import Array, Edge, context, enable_grad, no_grad
from .tensor import Operand, Tensor, described, seed_for, wrap
from .tree import flatten, rebuild
from .walk import own, pull_back

Key = TypeVar("Key")


Ys: TypeAlias = Tensor | Sequence[Tensor]
Cotangent: TypeAlias = "Operand | Sequence[Operand | None] | None"


class GradOptions(TypedDict, total=False):
    """Keywords of `grad` that do not change the type of its result."""

    cotangent: Cotangent
    allow_unused: bool


@overload
def grad(y: Ys, xs: Tensor, *, create_graph: Literal[False] = False, **options: Unpack[GradOptions]) -> Array: ...
@overload
def grad(
    y: Ys, xs: tuple[Tensor, ...], *, create_graph: Literal[False] = False, **options: Unpack[GradOptions]
) -> tuple[Array, ...]: ...
@overload
def grad(
    y: Ys, xs: list[Tensor], *, create_graph: Literal[False] = False, **options: Unpack[GradOptions]
) -> list[Array]: ...
@overload
def grad(
    y: Ys, xs: Mapping[Key, Tensor], *, create_graph: Literal[False] = False, **options: Unpack[GradOptions]
) -> dict[Key, Array]: ...
@overload
def grad(y: Ys, xs: Tensor, *, create_graph: Literal[True], **options: Unpack[GradOptions]) -> Tensor: ...
@overload
def grad(
    y: Ys, xs: tuple[Tensor, ...], *, create_graph: Literal[True], **options: Unpack[GradOptions]
) -> tuple[Tensor, ...]: ...
@overload
def grad(y: Ys, xs: list[Tensor], *, create_graph: Literal[True], **options: Unpack[GradOptions]) -> list[Tensor]: ...
@overload
def grad(
    y: Ys, xs: Mapping[Key, Tensor], *, create_graph: Literal[True], **options: Unpack[GradOptions]
) -> dict[Key, Tensor]: ...
@overload
def grad(y: Ys, xs: object, *, create_graph: bool = False, **options: Unpack[GradOptions]) -> Any: ...
def grad(
    y: Ys, xs: object, *, cotangent: Cotangent = None, create_graph: bool = False, allow_unused: bool = False
) -> object:
    """Return dy/dx for each x of `xs`: the sum over the elements of y of cotangent * dy/dx.

    Pure: no `.grad` changes, the graph stays, and calling it twice gives the same bits.

    Args:
        y: a Tensor, or several; several add up.
        xs: a Tensor, or any nesting (tuple, list, dict) of Tensors, leaves of the graph or results inside it.
        cotangent: weight of each element, in the shape of y (a sequence for several); may be left out if y has
            one element.
        create_graph: record the backward pass, so that the result can be differentiated again.
        allow_unused: give zeros for an x that y does not depend on, instead of an error.

    Returns:
        The nesting of `xs` with arrays of the shapes and dtypes of its Tensors: writable, sharing no memory; with
        `create_graph=True` Tensors.

    Raises:
        GradientError: if y was not recorded, an x does not require a gradient or y does not depend on it, or y has
            several elements and no cotangent.
        ShapeError: if a cotangent does not have the shape of its y.
        ConfigError: if `create_graph` or `allow_unused` is not True or False.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0, 2.0], requires_grad=True)
    >>> tr.grad(np.sum(x**3), x)
    array([ 3., 12.])
    >>> dx = tr.grad(np.sum(x**3), x, create_graph=True)
    >>> tr.grad(np.sum(dx), x)
    array([ 6., 12.])
    """
    create_graph = flag("grad", "create_graph", create_graph)
    allow_unused = flag("grad", "allow_unused", allow_unused)
    tracer = context().tracer
    recording = enable_grad if create_graph or tracer is None else no_grad
    create_graph = create_graph or tracer is not None  # then the rules are what is traced
    ys, cotangents = _pairs(y, cotangent)
    make = tracer.fixed if tracer is not None else wrap if create_graph else np.asarray
    seeds = []
    for part, weight in zip(ys, cotangents, strict=True):
        seed = seed_for(part, weight, "grad")
        records = create_graph and isinstance(weight, Tensor)
        seeds.append((_edge(part), weight if records else make(seed)))

    wanted = flatten(xs)
    for number, x in enumerate(wanted):
        if not isinstance(x, Tensor) or x.node is None:
            raise GradientError(
                f"grad: xs[{number}]{_called(x)} is {described(x)}{_hint(x)}; expected a Tensor that requires a "
                "gradient (requires_grad=True when it was made, before y was computed)"
            )
    edges = [_edge(x) for x in wanted]
    if tracer is not None:
        tracer.wanted([node for node, _ in edges])
    with recording():
        lift = tracer.lift if tracer is not None else _lift if create_graph else None
        found = pull_back(seeds, edges, lift=lift)

    results: list[Any] = []
    for number, (x, edge) in enumerate(zip(wanted, edges, strict=True)):
        if edge not in found and not allow_unused:
            raise GradientError(
                f"grad: y does not depend on xs[{number}]{_called(x)}, of shape {x.shape}: it was not used, or a cut "
                "stands between; pass allow_unused=True for zeros"
            )
        results.append(found[edge] if edge in found else np.zeros(x.shape, x.dtype))
    if create_graph:
        return rebuild(xs, iter([g if isinstance(g, Tensor) else wrap(g) for g in results]))
    return rebuild(xs, iter(own(results)))


def _pairs(y: object, cotangent: object) -> tuple[list[Tensor], list[object]]:
    """Return what is differentiated, and the cotangent of each (None where none was given)."""
    if isinstance(y, Tensor):
        return [y], [cotangent]
    if not isinstance(y, tuple | list):
        raise GradientError(
            f"grad: expected y to be a Tensor or a list of Tensors, got {described(y)}; a number or an array was "
            "computed from arrays alone, or taken with .data or .item(), and has no graph"
        )
    if cotangent is None:
        return list(y), [None] * len(y)
    if not isinstance(cotangent, tuple | list):
        raise GradientError(f"grad: expected a list of {len(y)} cotangents, one for each y, got {described(cotangent)}")
    if len(cotangent) != len(y):
        raise GradientError(f"grad: expected {len(y)} cotangents, one for each y, got {len(cotangent)}")
    return list(y), list(cotangent)


def _edge(x: Tensor) -> Edge:
    assert x.node is not None
    return x.node, x.index


def _lift(array: Array, edge: Edge) -> Tensor:
    return wrap(array, *edge)


def _hint(x: object) -> str:
    return ", whose .parameters() can be passed" if hasattr(x, "parameters") else ""


def _called(x: object) -> str:
    name = getattr(x, "name", None)
    return f" ({name})" if name else ""
