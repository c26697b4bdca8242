"""The aspects of a primitive that concern memory: the layout of its arrays, writes to its arguments, and `out=`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np

from ..engine.arrays import frozen_copy
from ..engine.tape import Array, Node
from ..engine.walk import rule_results
from .aspects import AspectError, Case, agree, same_shapes


def _blank(y: Array) -> Array:
    """Return an array of the same shape, dtype and order, filled with values that no result has."""
    return np.full_like(y, np.nan if y.dtype.kind in "fc" else np.iinfo(y.dtype).max if y.dtype.kind in "iu" else True)


def _strided(value: Array) -> Array:
    wide = _blank(np.zeros([2 * n for n in value.shape], value.dtype))
    view = wide[np.index_exp[...] + np.index_exp[::2] * value.ndim]
    view[...] = value  # the gaps stay blank, so that reads of them are noticed
    return view


_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": _strided,
    "transposed": np.asfortranarray,
    "reversed": lambda value: np.asarray(np.flip(np.array(np.flip(value)))),
}


def layout(case: Case) -> str:
    """Give the function and its rule the same arrays in other memory layouts."""
    _given(case, _LAYOUTS)
    repeated = case.map(lambda value: np.broadcast_to(value[:1], value.shape) if value.ndim and value.size else value)
    agree(repeated.forward(), repeated.map(np.array).forward(), "value of broadcast inputs")
    return f"{', '.join(_LAYOUTS)}, broadcast: function and rule"


def read_only(case: Case) -> str:
    """Give the function and its rule arrays that cannot be written to."""
    _given(case, {"read-only": frozen_copy})
    return "function and rule"


def _given(case: Case, changes: Mapping[str, Callable[[Array], Array]]) -> None:
    """Give the function and its rule changed arrays of the same values, and expect the same results."""
    expected, node = case.map(np.array).forward(), _node(case)
    pulled = _pull(case, node, np.array)
    for name, change in changes.items():
        agree(case.map(change).forward(), expected, f"value of {name} inputs")
        agree(_pull(case, node, change), pulled, f"rule on {name} arrays")


def no_mutation(case: Case) -> str:
    """Give the function and its rule arrays that can be written to, and expect them unchanged."""
    handed: list[tuple[Array, bytes]] = []

    def copied(value: Array) -> Array:
        new = np.array(value)
        handed.append((new, new.tobytes()))
        return new

    case.map(copied).forward()
    if any(array.tobytes() != before for array, before in handed):
        raise AspectError("the function changes an input in place; compute into a new array")
    _pull(case, _node(case), copied)
    if any(array.tobytes() != before for array, before in handed):
        raise AspectError("the rule changes its cotangent, its output or an input in place; compute into a new array")
    return "function and rule"


def _node(case: Case) -> Node:
    node = case.recorded(case.leaves())[0].node
    if node is None or node.operation is None:
        raise AspectError("nothing was recorded: the result is not floating point")
    return node


def _pull(case: Case, node: Node, change: Callable[[Array], Array]) -> list[Array]:
    """Run the rule of `node` on plain arrays, each of them changed first."""
    changed = copy.copy(node)
    changed.inputs = tuple(change(value) if isinstance(value, np.ndarray) else value for value in node.inputs)
    changed.output = None if node.output is None else change(node.output)
    cotangents = [change(case.normal(spec.shape).astype(spec.dtype)) for spec in node.specs]
    found = rule_results(changed, cotangents, [True] * len(node.edges))
    return [np.asarray(result) for result in found if result is not None]


def out(case: Case) -> str:
    """Write the result into given arrays of several layouts, and over an input; check a declared `elementwise`."""
    if case.p.elementwise and not _is_elementwise(same_shapes(case)):
        raise AspectError("declared elementwise, but an element of the result depends on others than its own")
    expected = case.forward()
    layouts: dict[str, Callable[[Array], Array]] = {"C-ordered": np.ascontiguousarray, **_LAYOUTS}
    for name, order in layouts.items():
        buffers = tuple(order(_blank(y)).reshape(y.shape) for y in expected)
        returned = case.p(*case.inputs, **case.attrs, out=buffers if case.p.multiple else buffers[0])
        if list(map(id, case.outputs(returned))) != list(map(id, buffers)):
            raise AspectError("it does not return the array that it was given as out=")
        agree(buffers, expected, f"value in a {name} out=")
    text = ", ".join(layouts)
    if not case.p.accepts_out:
        return f"{text}; copied there by the engine"
    over = [i for i, v in case.checked.items() if v.shape == expected[0].shape] if _is_elementwise(case) else []
    for i in over:
        inputs = case.map(np.array).inputs
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
                after = case.replaced({i: moved}).forward()[0]
            after[index] = before[index]
            if not np.array_equal(after, before, equal_nan=True):
                return False
    return True
