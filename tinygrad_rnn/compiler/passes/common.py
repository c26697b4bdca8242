"""Functions that several passes share: queries of a graph, and additions to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..ir.graph import Body, Call, Graph, Rewriter, Value
from ..ir.operators import MATMUL, RESHAPE, TRANSPOSE
from ..ir.table import VIEWS

Operands = list[Any]
"""Values, and Python numbers."""

Rule = Callable[[Call, Operands, Rewriter], Sequence[Value] | None]
"""Returns the replacements of a call's results, given its operands in the new graph; None keeps the call."""


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """Return a graph with each call replaced as a rule says; the graph itself if the rule keeps all calls."""
    new = Rewriter(graph)
    for call in graph.calls:
        new.place = call.place
        now = rule(call, [new.get(part) for part in call.inputs] if new.now else list(call.inputs), new)
        if now is None:
            new.keep(call)
        else:
            new.now.update(zip(call.outputs, now, strict=True))
    return new.done() if new.now else graph


def substitute(graph: Graph, now: dict[Value, Value]) -> Graph:
    """Replace values by others wherever they are read; the calls stay the same objects."""
    new = Rewriter(graph)
    new.now.update(now)
    for call in graph.calls:
        new.keep(call)
    return new.done()


# -- what a value is --------------------------------------------------------------------------------------------------


def maker_of(part: object, name: str) -> Call | None:
    """Return the call that computes an operand if it has this name, else None."""
    maker = part.maker if isinstance(part, Value) else None
    return maker if maker is not None and maker.name == name else None


def axes_of(call: Call) -> tuple[int, ...]:
    """Return the axes of a transpose, or those that a reduction sums over, counted from 0."""
    ndim, axes = call.inputs[0].ndim, call.attrs["axes" if call.name == "transpose" else "axis"]
    if axes is None:
        return tuple(range(ndim))[:: -1 if call.name == "transpose" else 1]
    return tuple(axis % ndim for axis in ((axes,) if isinstance(axes, int) else axes))


def is_weight(value: Value) -> bool:
    """Return whether a value is a matrix that no step computes: an input, a constant, or a view of one."""
    if value.ndim != 2:
        return False
    while value.maker is not None and value.maker.name in VIEWS - {"unstack"}:
        value = value.maker.inputs[0]
    return value.maker is None or (value.maker.step is None and value.maker.name != "unstack")


def is_outer(call: Call) -> bool:
    """Return whether a call is A.T @ B for matrices A and B."""
    left = maker_of(call.inputs[0], "transpose") if call.name == "matmul" else None
    return left is not None and axes_of(left) == (1, 0) and call.inputs[1].ndim == 2


def before_reshapes(value: Value) -> Value:
    """Return the value that a chain of reshapes starts from, or the value itself if it is no reshape."""
    while (maker := maker_of(value, "reshape")) is not None:
        value = maker.inputs[0]
    return value


def attrs_key(call: Call) -> Hashable:
    """Return a key of the attributes of a call."""
    return tuple([(name, part_key(part)) for name, part in sorted(call.attrs.items())]) if call.attrs else ()


def part_key(part: object) -> Hashable:
    """Return a key of an operand or an attribute."""
    if type(part) is Value:
        return id(part)
    if type(part) is tuple:
        return tuple(map(part_key, part))
    if isinstance(part, np.ndarray | Body) or callable(part):
        return id(part)
    return type(part).__name__, repr(part)


# -- calls that passes append -----------------------------------------------------------------------------------------


def reshaped(new: Rewriter, x: Value, shape: tuple[int, ...]) -> Value:
    """Append x in another shape."""
    return new.call(RESHAPE, [x], {"shape": shape}).output


def transposed(new: Rewriter, x: Value, axes: Sequence[int]) -> Value:
    """Append x with its axes in another order."""
    return new.call(TRANSPOSE, [x], {"axes": tuple(axes)}).output


def product(new: Rewriter, a: Value, b: Value) -> Value:
    """Append a @ b."""
    return new.call(MATMUL, [a, b]).output


def rows(new: Rewriter, x: Value) -> Value:
    """Append x (..., D) as a matrix (rows, D)."""
    return reshaped(new, x, (math.prod(x.shape[:-1]), x.shape[-1]))


def outer_product(new: Rewriter, a: Value, b: Value) -> Value:
    """Append A.T @ B, where A and B are two arrays as matrices of rows."""
    left, right = rows(new, a), rows(new, b)
    return product(new, transposed(new, left, (1, 0)), right)
