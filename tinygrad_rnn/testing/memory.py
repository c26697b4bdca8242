"""The aspects of a primitive that concern memory: the layout of its arrays, writes to its arguments, and `out=`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import EllipsisType

import numpy as np

from ..engine.tape import Array, Node
from .aspects import AspectError, Case, agree


def _strided(value: Array) -> Array:
    buffer = np.zeros([2 * n for n in value.shape], value.dtype)
    if value.dtype.kind in "fc":
        buffer.fill(np.nan)  # so that reads past a gap are noticed
    every_other: tuple[slice | EllipsisType, ...] = (..., *[slice(None, None, 2)] * value.ndim)
    buffer[every_other] = value
    return buffer[every_other]


def _reversed(value: Array) -> Array:
    return np.asarray(np.flip(np.array(np.flip(value))))


_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": _strided,
    "transposed": np.asfortranarray,
    "reversed": _reversed,
}


def layout(case: Case) -> str:
    """Give the function and its rule the same arrays in other memory layouts."""
    expected, node = case.forward(), _node(case)
    pulled = _pull(case, node, np.array)
    for name, change in _LAYOUTS.items():
        agree(case.forward(case.map(change)), expected, f"value of {name} inputs")
        agree(_pull(case, node, change), pulled, f"rule on {name} arrays")
    repeated = case.map(lambda value: np.broadcast_to(value[:1], value.shape) if value.ndim and value.size else value)
    copied = replace(case, inputs=repeated).map(np.array)
    agree(case.forward(repeated), case.forward(copied), "value of broadcast inputs")
    return f"{', '.join(_LAYOUTS)}, broadcast: function and rule"


def read_only(case: Case) -> str:
    """Give the function and its rule arrays that cannot be written to."""

    def frozen(value: Array) -> Array:
        copy = np.array(value)
        copy.flags.writeable = False
        return copy

    agree(case.forward(case.map(frozen)), case.forward(case.map(np.array)), "value of read-only inputs")
    _pull(case, _node(case), frozen)
    return "function and rule"


def no_mutation(case: Case) -> str:
    """Give the function and its rule arrays that can be written to, and expect them unchanged."""
    handed: list[tuple[Array, bytes]] = []

    def copied(value: Array) -> Array:
        copy = np.array(value)
        handed.append((copy, copy.tobytes()))
        return copy

    case.forward(case.map(copied))
    if any(array.tobytes() != before for array, before in handed):
        raise AspectError("the function changes an input in place; compute into a new array")
    _pull(case, _node(case), copied)
    if any(array.tobytes() != before for array, before in handed):
        raise AspectError("the rule changes its cotangent, output or an input in place; compute into a new array")
    return "function and rule"


def _node(case: Case) -> Node:
    node = case.recorded(case.inputs)[0][0].node
    if node is None or node.operation is None:
        raise AspectError("nothing was recorded: the result is not floating point")
    return node


def _pull(case: Case, node: Node, change: Callable[[Array], Array]) -> list[Array]:
    """Run the rule of `node` on plain arrays, each of them changed first."""
    assert node.operation is not None
    cotangents = [change(case.normal(spec.shape).astype(spec.dtype)) for spec in node.specs]
    inputs = [change(value) if isinstance(value, np.ndarray) else value for value in node.inputs]
    output = None if node.output is None else change(node.output)
    results = node.operation.pull(
        cotangents if node.operation.multiple else cotangents[0], output, *inputs, **node.attrs
    )
    needed = [result for edge, result in zip(node.edges, results, strict=True) if edge is not None]
    return [np.asarray(result() if callable(result) else result) for result in needed if result is not None]


def _blank(y: Array) -> Array:
    """Return an array of the same shape, dtype and order, filled with values that no result has."""
    return np.full_like(y, np.nan if y.dtype.kind in "fc" else np.iinfo(y.dtype).max if y.dtype.kind in "iu" else True)


def out(case: Case) -> str:
    """Write the result into given arrays of several layouts, and over an input."""
    expected = case.forward()
    layouts: dict[str, Callable[[Array], Array]] = {"C-ordered": np.ascontiguousarray, **_LAYOUTS}
    for name, order in layouts.items():
        buffers = tuple(order(_blank(y)).reshape(y.shape) for y in expected)
        given = buffers if case.p.multiple else buffers[0]
        returned = case.p(*case.inputs, **case.attrs, out=given)
        parts = tuple(case.outputs(returned))
        if len(parts) != len(buffers) or any(a is not b for a, b in zip(parts, buffers, strict=True)):
            raise AspectError("what is returned is not the array given as out=")
        agree(buffers, expected, f"value in a {name} out=")
    text = ", ".join(layouts)
    if not case.p.accepts_out:
        return f"{text}; copied there by the engine"
    over = [i for i, v in case.checked.items() if v.shape == expected[0].shape] if _is_elementwise(case) else []
    for i in over:
        inputs = case.map(np.array)
        case.p(*inputs, **case.attrs, out=inputs[i])
        agree([np.asarray(inputs[i])], expected, f"value written over input {i}")
    return f"{text}; over an input" if over else text


def _is_elementwise(case: Case) -> bool:
    """Return whether each element of the result depends on one element of each input that has its shape."""
    if case.p.multiple:
        return False
    before = case.forward()[0]
    for i, value in case.checked.items():
        if value.shape != before.shape or before.dtype != value.dtype:
            return False
        for index in np.ndindex(value.shape):
            moved = np.array(value)
            moved[index] *= 1.25
            with np.errstate(all="ignore"):  # it may have left the domain of the function
                after = case.forward(case.replaced({i: moved}))[0]
            after[index] = before[index]
            if not np.array_equal(after, before, equal_nan=True):
                return False
    return True
