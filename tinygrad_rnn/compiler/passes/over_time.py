"""One operation for all steps of a loop at once: the same on arrays with time as their first axis."""

from __future__ import annotations

from typing import Any

from ..ir.graph import Call, Rewriter, Value
from ..ir.operators import BROADCAST, MATMUL, RESHAPE
from ..ir.table import ELEMENTWISE

_REDUCTIONS = frozenset(("sum", "mean", "max", "min"))


def is_known(call: Call) -> bool:
    """Return whether an operation can be done for all steps at once."""
    if not call.operator.pure or call.operator.key != call.name:
        return False
    name = call.name
    if name in ELEMENTWISE:
        return True
    if name == "matmul":
        return all(isinstance(part, Value) and part.ndim >= 2 for part in call.inputs)
    if name == "getitem":
        return all(isinstance(part, slice | int) for part in _index(call)) and not any(
            isinstance(part, bool) for part in _index(call)
        )
    return name in _REDUCTIONS or name in ("reshape", "transpose", "split", "unstack", "concatenate", "broadcast_to")


def for_all_steps(new: Rewriter, call: Call, operands: list[tuple[Any, bool]], steps: int) -> list[Value]:
    """Append an operation of a body for all steps at once, and return its results, each (T, ...).

    Args:
        new: what is appended to.
        call: the operation of one step.
        operands: for each input what it is outside of the loop, and whether that is stacked along time; one is.
        steps: T.
    """
    if call.name in ELEMENTWISE:
        return [
            new.call(call.operator, [_aligned(new, *part, call.output.ndim) for part in operands], call.attrs).output
        ]
    if call.name == "matmul":
        return [_product(new, call, operands, steps)]
    if call.name == "concatenate":
        parts = [_repeated(new, *part, steps) for part in operands]
        return [new.call(call.operator, parts, {"axis": call.attrs["axis"] % call.output.ndim + 1}).output]
    (x, _), *_ = operands
    shape = (steps, *call.outputs[0].shape)
    if call.name == "broadcast_to":
        return [new.call(BROADCAST, [_aligned(new, x, True, call.output.ndim)], {"shape": shape}).output]
    if call.name == "reshape":
        return [new.call(RESHAPE, [x], {"shape": shape}).output]
    return list(new.call(call.operator, [x], _later_axes(call, call.inputs[0].ndim)).outputs)


def _later_axes(call: Call, ndim: int) -> dict[str, Any]:
    """Return the attributes of an operation on an array with one more axis in front."""
    attrs = call.attrs
    if call.name == "transpose":
        axes = tuple(reversed(range(ndim))) if attrs["axes"] is None else attrs["axes"]
        return {"axes": (0, *(axis % ndim + 1 for axis in axes))}
    if call.name == "getitem":
        return {"index": (slice(None), *_index(call))}
    axis = attrs["axis"]
    if call.name in ("split", "unstack"):
        return {**attrs, "axis": axis % ndim + 1}
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return {**attrs, "axis": tuple(one % ndim + 1 for one in axes)}


def _index(call: Call) -> tuple[Any, ...]:
    index = call.attrs["index"]
    return index if isinstance(index, tuple) else (index,)


def _aligned(new: Rewriter, part: Any, is_stacked: bool, ndim: int) -> Any:
    """Return an operand whose axes meet those of a result that has time in front of `ndim` others."""
    if not is_stacked or part.ndim == ndim + 1:
        return part
    shape = (part.shape[0], *(1,) * (ndim + 1 - part.ndim), *part.shape[1:])
    return new.call(RESHAPE, [part], {"shape": shape}).output


def _repeated(new: Rewriter, part: Value, is_stacked: bool, steps: int) -> Value:
    return part if is_stacked else new.call(BROADCAST, [part], {"shape": (steps, *part.shape)}).output


def _product(new: Rewriter, call: Call, operands: list[tuple[Any, bool]], steps: int) -> Value:
    (a, a_stacked), (b, b_stacked) = operands
    if a_stacked and not b_stacked and a.ndim == 3 and b.ndim == 2:
        rows = new.call(RESHAPE, [a], {"shape": (steps * a.shape[1], a.shape[2])}).output
        flat = new.call(MATMUL, [rows, b]).output
        return new.call(RESHAPE, [flat], {"shape": (steps, *call.output.shape)}).output
    ndim = call.output.ndim
    return new.call(MATMUL, [_aligned(new, a, a_stacked, ndim), _aligned(new, b, b_stacked, ndim)]).output
