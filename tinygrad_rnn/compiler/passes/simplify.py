"""Dead code elimination, common subexpression elimination, constant folding, removal of inverse operations."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from ..ir.graph import Call, Graph, Rewriter, Value, map_attrs
from .common import Operands, attrs_key, axes_of, part_key, reshaped, rewrite, transposed


def remove_dead_code(graph: Graph) -> Graph:
    """Remove calls that no output needs: dead code elimination."""
    needed = set(graph.outputs)
    kept = []
    for call in reversed(graph.calls):
        if not needed.isdisjoint(call.outputs) or not call.operator.pure:
            kept.append(call)
            needed.update(call.values())
    return graph if len(kept) == len(graph.calls) else graph.with_calls(reversed(kept))


def merge_subexpressions(graph: Graph) -> Graph:
    """Merge calls that compute the same: common subexpression elimination."""
    new = Rewriter(graph)
    seen: dict[Hashable, Call] = {}
    for call in graph.calls:
        made = new.keep(call)
        if not call.operator.pure:
            continue
        key = (call.operator.key, tuple(map(part_key, made.inputs)), attrs_key(made))
        first = seen.setdefault(key, made)
        if first is not made:
            new.calls.pop()
            if first.cotangent != call.cotangent:
                first.cotangent = None  # one is not a sum of this cotangent, so the order of the terms is kept
            new.now.update(zip(call.outputs, first.outputs, strict=True))
    return new.done() if new.now else graph


def simplify_calls(graph: Graph) -> Graph:
    """Remove calls that change nothing and inverse pairs, merge reshapes and transposes, fold small constants."""
    return rewrite(graph, _simplified)


def _simplified(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    simpler = _simpler(call, inputs, new) if call.operator.name in _SIMPLER else None
    return simpler or _folded(call, inputs, new)


_SIMPLER = frozenset(["broadcast_to", "cut", "reshape", "stack", "transpose", "unstack", "where"])


def _simpler(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Remove cuts, which change nothing here, and inverse pairs; merge consecutive reshapes and transposes."""
    if not inputs or not isinstance(inputs[0], Value):
        return None
    x = inputs[0]
    if (same := _unchanged(call, inputs)) is not None:
        return [same]
    maker = x.maker
    if maker is None:
        return None
    if call.name == "stack" and maker.name == "unstack" and list(inputs) == list(maker.outputs):
        return [maker.inputs[0]] if maker.inputs[0].spec == call.output.spec and _same_axis(call, maker) else None
    if call.name == maker.name == "reshape":
        return [reshaped(new, maker.inputs[0], call.output.shape)]
    if call.name == maker.name == "transpose":
        first = axes_of(maker)
        return [transposed(new, maker.inputs[0], [first[axis] for axis in axes_of(call)])]
    if call.name == "unstack" and maker.name == "stack" and _same_axis(call, maker):
        return list(maker.inputs) if all(isinstance(part, Value) for part in maker.inputs) else None
    return None


def _same_axis(one: Call, other: Call) -> bool:
    """Return whether a stack and an unstack, in either order, have the same axis."""
    stack, unstack = (one, other) if one.name == "stack" else (other, one)
    return bool(stack.attrs["axis"] % stack.output.ndim == unstack.attrs["axis"] % unstack.inputs[0].ndim)


def _unchanged(call: Call, inputs: Operands) -> Value | None:
    """Return the operand that a call returns unchanged; None if it does more."""
    x: Value = inputs[0]
    if call.name == "cut":
        return x if x.dtype.kind != "c" else None  # it scales the imaginary part, the tangent of complex step
    if call.name == "where" and isinstance(inputs[1], Value) and inputs[1] is inputs[2]:
        return inputs[1] if inputs[1].spec == call.output.spec else None
    if call.name not in ("reshape", "transpose", "broadcast_to") or call.output.shape != x.shape:
        return None
    return x if call.name != "transpose" or axes_of(call) == tuple(range(x.ndim)) else None


_SMALL = 1 << 12  # most elements of a constant that is folded


def _folded(call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
    """Fold small constants, and remove products with ones, such as the cotangent that a backward pass starts with."""
    if call.name == "multiply":
        kept = [part for part in inputs if not _is_ones(part)]
        if len(kept) == 1 and isinstance(kept[0], Value) and kept[0].spec == call.output.spec:
            return kept
    for part in inputs:
        if type(part) is Value and part.constant is None:
            return None
    values = [new.get(value) for value in call.values()]
    small = call.operator.pure and call.name != "loop" and sum(value.size for value in call.outputs) <= _SMALL
    if not values or not small or any(value.constant is None for value in values):
        return None
    call.inputs = tuple(inputs)
    call.attrs = map_attrs(new.get, call.attrs)
    made = call.operator.results(call.operator.compute(*map(_array, inputs), **map_attrs(_array, call.attrs)))
    constants = [Value(array.shape, array.dtype, constant=array) for array in map(np.array, made)]
    for index, constant in enumerate(constants):
        constant.folded = call, index
    return constants


def _array(part: object) -> object:
    return part.constant if isinstance(part, Value) else part


def _is_ones(part: object) -> bool:
    constant = part.constant if isinstance(part, Value) else None
    return constant is not None and constant.size <= _SMALL and bool((constant == 1).all())
