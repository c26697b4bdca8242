"""Dead code, equal calls, and operations that undo each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.graph import Body, Call, Graph, Place, Rewriter, Value, map_parts
from ..ir.operators import GETITEM, RESHAPE, STACK, TRANSPOSE


def remove_dead(graph: Graph) -> Graph:
    """Remove calls that no output needs."""
    needed = set(graph.outputs)
    kept = []
    for call in reversed(graph.calls):
        if any(value in needed for value in call.outputs) or not call.operator.pure:
            kept.append(call)
            needed.update(call.values())
    return graph.with_calls(reversed(kept))


def merge_equal(graph: Graph) -> Graph:
    """Compute what is computed twice once: common subexpressions."""
    new = Rewriter(graph)
    seen: dict[Any, Call] = {}
    for call in graph.calls:
        made = new.keep(call)
        if not call.operator.pure:
            continue
        key = (call.operator.key, tuple(map(_key, made.inputs)), attrs_key(made))
        first = seen.setdefault(key, made)
        if first is not made:
            new.calls.pop()
            if first.cotangent != call.cotangent:
                first.cotangent = None  # the user wrote one of the two
            new.now.update(zip(call.outputs, first.outputs, strict=True))
    return new.done()


def _key(part: Any) -> Any:
    if type(part) is tuple:
        return tuple(map(_key, part))
    if isinstance(part, Value | np.ndarray | Body) or callable(part):
        return id(part)
    return type(part).__name__, repr(part)


def attrs_key(call: Call) -> Any:
    """Return the attributes of a call as something that can be compared."""
    return tuple((name, _key(part)) for name, part in sorted(call.attrs.items()))


def undo(graph: Graph) -> Graph:
    """Remove pairs that undo each other: cuts going forward, stack and unstack, reshapes and transposes in a row."""
    new = Rewriter(graph)
    for call in graph.calls:
        now = _simpler(call, [new.get(part) for part in call.inputs], new)
        if now is None:
            new.keep(call)
        else:
            new.now.update(zip(call.outputs, now, strict=True))
    return new.done()


def _simpler(call: Call, inputs: list[Any], new: Rewriter) -> list[Value] | None:
    if not inputs or not isinstance(inputs[0], Value):
        return None
    x = inputs[0]
    maker = x.maker
    if (same := _unchanged(call, inputs)) is not None:
        return [same]
    if maker is None:
        return None
    if call.name == "reshape" and maker.name == "reshape":
        return [new.call(RESHAPE, [maker.inputs[0]], {"shape": call.output.shape}, place=call.place).output]
    if call.name == "transpose" and maker.name == "transpose":
        first, second = _axes(maker, x.ndim), _axes(call, x.ndim)
        return [
            new.call(TRANSPOSE, [maker.inputs[0]], {"axes": tuple(first[a] for a in second)}, place=call.place).output
        ]
    if call.name == "unstack" and maker.name == "stack" and call.attrs["axis"] % x.ndim == maker.attrs["axis"] % x.ndim:
        return list(maker.inputs) if all(isinstance(part, Value) for part in maker.inputs) else None
    if call.name == "stack":
        joined = joined_slices(new, inputs, call.attrs["axis"] % call.output.ndim, call.place)
        return None if joined is None else [joined]
    return None


def _unchanged(call: Call, inputs: list[Any]) -> Value | None:
    """Return the operand that a call gives back as it is; None if it does more."""
    x: Value = inputs[0]
    if call.name == "cut":
        return x if x.dtype.kind != "c" else None  # it scales the imaginary part, the tangent of complex step
    if call.name == "where" and isinstance(inputs[1], Value) and inputs[1] is inputs[2]:
        return inputs[1] if _spec(inputs[1]) == _spec(call.output) else None
    if call.name not in ("reshape", "transpose", "broadcast_to") or call.output.shape != x.shape:
        return None
    return x if call.name != "transpose" or x.ndim < 2 or _axes(call, x.ndim) == tuple(range(x.ndim)) else None


_SMALL = 1 << 12  # elements of a constant that is worth computing in advance


def fold(graph: Graph) -> Graph:
    """Compute small constants now, and drop products with ones: the cotangent that a backward pass starts with."""
    new = Rewriter(graph)
    for call in graph.calls:
        inputs = [new.get(part) for part in call.inputs]
        if call.name == "multiply":
            kept = [part for part in inputs if not _is_ones(part)]
            if len(kept) == 1 and isinstance(kept[0], Value) and (kept[0].shape, kept[0].dtype) == _spec(call.output):
                new.now[call.output] = kept[0]
                continue
        values = [new.get(value) for value in call.values()]
        small = call.operator.pure and call.name != "loop" and sum(value.size for value in call.outputs) <= _SMALL
        if values and small and all(value.constant is not None for value in values):
            arrays = [_array(new.get(part)) for part in call.inputs]
            attrs = {name: map_parts(lambda p: _array(new.get(p)), part) for name, part in call.attrs.items()}
            made = call.operator.results(call.operator.compute(*arrays, **attrs))
            for value, array in zip(call.outputs, map(np.array, made), strict=True):
                constant = new.now[value] = Value(array.shape, array.dtype, constant=array)
                constant.folded = call, value.index
            call.inputs, call.attrs = (
                tuple(map(new.get, call.inputs)),
                {name: map_parts(new.get, part) for name, part in call.attrs.items()},
            )
        else:
            new.keep(call)
    return new.done()


def _array(part: Any) -> Any:
    return part.constant if isinstance(part, Value) else part


def _spec(value: Value) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return value.shape, value.dtype


def _is_ones(part: Any) -> bool:
    return (
        isinstance(part, Value)
        and part.constant is not None
        and part.size <= _SMALL
        and bool((part.constant == 1).all())
    )


def _axes(call: Call, ndim: int) -> tuple[int, ...]:
    axes = call.attrs["axes"]
    return tuple(reversed(range(ndim))) if axes is None else tuple(a % ndim for a in axes)


def joined_slices(new: Rewriter, values: list[Any], to: int, place: Place = (None, ())) -> Value | None:
    """Append views that join slices of one array again, along axis `to`; None if they are not such slices, in order."""
    whole = slices_of(values)
    if whole is None:
        return None
    source, axis, start = whole
    if start or len(values) != source.shape[axis]:
        index = (slice(None),) * axis + (slice(start, start + len(values)),)
        source = new.call(GETITEM, [source], {"index": index}, place=place).output
    if to == axis:
        return source
    order = [a for a in range(source.ndim) if a != axis]
    order.insert(to, axis)
    return new.call(TRANSPOSE, [source], {"axes": tuple(order)}, place=place).output


def slices_of(values: list[Any]) -> tuple[Value, int, int] | None:
    """Return (array, axis, first index) if these are slices of one array, in order and without gaps; else None."""
    if not all(isinstance(v, Value) and v.maker is not None and v.maker.name == "unstack" for v in values):
        return None
    maker = values[0].maker
    if any(v.maker is not maker or v.index != values[0].index + k for k, v in enumerate(values)):
        return None
    return maker.inputs[0], maker.attrs["axis"] % maker.inputs[0].ndim, values[0].index


def stacks_first(graph: Graph) -> Graph:
    """Let every stack join along its first axis, with a view that moves the axis: so that slices lie in one piece."""
    new = Rewriter(graph)
    for call in graph.calls:
        axis = call.attrs["axis"] % call.output.ndim if call.name == "stack" else 0
        if call.name != "stack" or axis == 0:
            new.keep(call)
            continue
        first = new.call(STACK, map(new.get, call.inputs), {"axis": 0}, place=call.place).output
        order = list(range(1, first.ndim))
        order.insert(axis, 0)
        new.now[call.output] = new.call(TRANSPOSE, [first], {"axes": tuple(order)}, place=call.place).output
    return new.done()
