"""Operations of a loop's body for all steps at once: the same on arrays with time as their first axis."""

from __future__ import annotations

from typing import Any

from ..ir.graph import Call, Rewriter, Value
from ..ir.operators import BROADCAST, MATMUL, RESHAPE
from ..ir.table import ELEMENTWISE
from .common import axes_of, product, reshaped, rows

_REDUCTIONS = frozenset(("sum", "mean", "max", "min"))
_BY_AXIS = frozenset(("transpose", "getitem", "split", "unstack", *_REDUCTIONS))
_KNOWN = ELEMENTWISE | _BY_AXIS | {"matmul", "reshape", "concatenate", "broadcast_to"}

Operand = tuple[Any, bool]
"""An operand outside of a loop, and whether it is stacked along time."""


def is_known(call: Call) -> bool:
    """Return whether an operation can be done for all steps at once."""
    if not call.operator.pure or call.operator.key != call.name or call.name not in _KNOWN:
        return False
    if call.name == "matmul":
        return all(isinstance(part, Value) and part.ndim >= 2 for part in call.inputs)
    return call.name != "getitem" or all(part is None or type(part) in (slice, int) for part in _index(call))


def for_all_steps(new: Rewriter, call: Call, operands: list[Operand], steps: int) -> tuple[Value, ...]:
    """Append an operation of a body for all steps at once, and return its results, each (T, ...).

    Args:
        new: the graph that is appended to.
        call: the operation of one step.
        operands: its inputs outside of the loop, at least one of them stacked.
        steps: T.
    """
    ndim, shape = call.outputs[0].ndim, (steps, *call.outputs[0].shape)
    x = operands[0][0]
    if call.name == "matmul":
        return (_product(new, operands, shape),)
    if call.name in ELEMENTWISE:
        return new.call(call.operator, [_aligned(new, operand, ndim) for operand in operands], call.attrs).outputs
    if call.name == "concatenate":
        parts = [part if is_stacked else _repeated(new, part, steps) for part, is_stacked in operands]
        return new.call(call.operator, parts, {"axis": call.attrs["axis"] % ndim + 1}).outputs
    if call.name == "broadcast_to":
        return new.call(BROADCAST, [_aligned(new, operands[0], ndim)], {"shape": shape}).outputs
    if call.name == "reshape":
        return new.call(RESHAPE, [x], {"shape": shape}).outputs
    return new.call(call.operator, [x], _later_axes(call)).outputs


def _later_axes(call: Call) -> dict[str, object]:
    """Return the attributes of an operation on an array with one more axis in front."""
    attrs = call.attrs
    if call.name == "getitem":
        return {"index": (slice(None), *_index(call))}
    if call.name in ("split", "unstack"):
        return {**attrs, "axis": attrs["axis"] % call.inputs[0].ndim + 1}
    axes = tuple(axis + 1 for axis in axes_of(call))
    return {"axes": (0, *axes)} if call.name == "transpose" else {**attrs, "axis": axes}


def _index(call: Call) -> tuple[object, ...]:
    index = call.attrs["index"]
    return index if isinstance(index, tuple) else (index,)


def _aligned(new: Rewriter, operand: Operand, ndim: int) -> object:
    """Return an operand reshaped to broadcast to a result that has time in front of `ndim` other axes."""
    part, is_stacked = operand
    if not is_stacked or part.ndim == ndim + 1:
        return part
    return reshaped(new, part, (part.shape[0], *(1,) * (ndim + 1 - part.ndim), *part.shape[1:]))


def _repeated(new: Rewriter, part: Value, steps: int) -> Value:
    return new.call(BROADCAST, [part], {"shape": (steps, *part.shape)}).output


def _product(new: Rewriter, operands: list[Operand], shape: tuple[int, ...]) -> Value:
    (a, a_stacked), (b, b_stacked) = operands
    if a_stacked and not b_stacked and a.ndim == 3 and b.ndim == 2:
        return reshaped(new, product(new, rows(new, a), b), shape)
    ndim = len(shape) - 1
    return new.call(MATMUL, [_aligned(new, operand, ndim) for operand in operands]).output
