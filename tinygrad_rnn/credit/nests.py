"""States and inputs of the driver: nestings in which only some parts carry a gradient.

Cotangents are typed as arrays; while `compile` records they are Tensors, which compute like arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

import numpy as np

from ..engine.arrays import frozen_copy
from ..engine.tape import Array, Edge, context
from ..engine.tensor import Operand, Tensor, Value, shape_of, wrap
from ..engine.tree import brief, flatten, map_leaves, named_leaves, rebuild, structure
from ..engine.walk import ancestors
from ..errors import GradientError, GradientWarning, ShapeError, warn


def is_float(value: object) -> TypeGuard[Value]:
    """Return whether a part of a state carries a gradient; step counters and ids do not."""
    return isinstance(value, Tensor | np.ndarray) and value.dtype.kind in "fc"


def floats(nest: object) -> list[Any]:
    """Return the parts of a state that carry a gradient, in order."""
    return [part for part in flatten(nest) if is_float(part)]


def with_floats(nest: object, values: Iterable[object]) -> object:
    """Return a state with other values for the parts that carry a gradient."""
    new = iter(values)
    return rebuild(nest, iter([next(new) if is_float(part) else part for part in flatten(nest)]))


def value_of(part: object) -> Any:
    """Return the array of a Tensor (while `compile` records, a detached Tensor), and anything else unchanged."""
    tracer = context().tracer
    if tracer is not None and isinstance(part, Tensor):
        return tracer.alone(part, is_leaf=False)
    return part.data if isinstance(part, Tensor) else part


def number_of(loss: object) -> float:
    """Return a loss of one element as a number; while `compile` records, as a detached Tensor.

    Raises:
        GradientError: if it is complex.
    """
    value: float = value_of(loss)
    if context().tracer is not None:
        return value
    if np.iscomplexobj(value):
        raise GradientError(f"Recurrence: expected a real loss, got {brief(value)}; take its real part, or abs()")
    return float(np.asarray(value).item())


def one_for(loss: Tensor) -> Array:
    """Return the cotangent 1 of a loss."""
    tracer = context().tracer
    ones: Array = np.ones(loss.shape, loss.dtype)
    return ones if tracer is None else cast(Array, tracer.fixed(ones))


def added(total: Array, term: Array, edge: Edge) -> Array:
    """Return the sum of two terms of the cotangent of an edge, written into `total` where both are arrays."""
    if isinstance(total, np.ndarray) and isinstance(term, np.ndarray):
        return np.add(total, term, out=total)
    made: Array = total + term
    if (tracer := context().tracer) is not None:
        tracer.accumulated(made, edge)
    return made


def arrays_of(state: object) -> Any:
    """Return a state without its graph."""
    return map_leaves(value_of, state)


def first_state(function: str, state: object, parameters: Mapping[str, Tensor]) -> object:
    """Return the state before the first step without its graph.

    Warns:
        GradientWarning: if parameters were computed with to get it, as a learned first state is: they get no gradient
            through it. (While `compile` records, that is a `TraceError`.)
    """
    nodes = [part.node for part in flatten(state) if isinstance(part, Tensor) and part.node is not None]
    if nodes:
        if (tracer := context().tracer) is not None:
            tracer.wanted([edge_to(parameter)[0] for parameter in parameters.values()])
        found = {*ancestors(nodes)}
        if names := [name for name, parameter in parameters.items() if parameter.node in found]:
            warn(
                f"{function}: the state before the first step was computed from parameters ({', '.join(names)}), which "
                "get no gradient through it, as it is cut there. Pass cut(state) if that is meant; to train them, let "
                "the loss make the state (give None), under no policy or one that goes back",
                GradientWarning,
            )
    return arrays_of(state)


def fresh_leaf(part: object) -> object:
    """Return a part of a state as a leaf of a new graph, if it can carry a gradient."""
    if not is_float(part):
        return part
    tracer = context().tracer
    if tracer is not None:
        return tracer.alone(part, is_leaf=True)
    array = cast(Array, part)  # states are held without their graphs
    leaf = wrap(frozen_copy(array) if array.flags.writeable else array)
    leaf.requires_grad = True
    return leaf


def loss_and_state(found: object, function: str) -> tuple[Operand | None, object]:
    """Return the result of a step, checked to be a loss and a state.

    Args:
        found: the result of the step.
        function: the function that called it, for the message.

    Raises:
        GradientError: if it is not a pair, or the loss is not a single element, or is a number that is no Tensor: of it
            there is no gradient. (0 is a sum of no losses.)
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        kind = f"{len(found)} values" if isinstance(found, tuple | list) else f"one {type(found).__name__}"
        raise GradientError(
            f"{function}: step must return (loss, state), the loss None where there is none; it returned {kind}"
        )
    loss, state = found
    if loss is not None and shape_of(loss) not in ((), (1,)):
        raise GradientError(
            f"{function}: step must return the sum of its losses, one element or None; got shape {shape_of(loss)}"
        )
    if not (loss is None or isinstance(loss, Tensor)) and (isinstance(loss, str) or np.any(loss)):
        raise GradientError(
            f"{function}: step must return the sum of its losses as a Tensor, which has a gradient, or None; got "
            f"{loss!r}; leave out .item(), .data and float()"
        )
    return loss, state


def check_kept(function: str, before: object, after: object) -> None:
    """Raise `GradientError` if a step changes the nesting of its state, or the shape of a part, or whether it is float.

    Args:
        function: what needs a state that stays, for the message.
        before, after: the state that the step took, and the one that it returned.
    """
    took, made = ([(shape_of(part), is_float(part)) for part in flatten(state)] for state in (before, after))
    if structure(before) != structure(after) or took != made:
        have, new = (brief(arrays_of(state)) for state in (before, after))
        raise GradientError(
            f"{function} needs a state that keeps its nesting, its shapes and its floating point parts; make the first "
            f"one like those that step returns: it took {have}, and returned {new}"
        )


def leaves_of(parameters: object, function: str) -> dict[str, Tensor]:
    """Return parameters as a dictionary.

    Args:
        parameters: name to leaf Tensor.
        function: the function that they were passed to, for the message.

    Raises:
        GradientError: if they are not a mapping, or one is not a Tensor.
    """
    if not isinstance(parameters, Mapping):
        raise GradientError(
            f"{function}: parameters must be a mapping from name to Tensor, such as cell.parameters(), got "
            f"{type(parameters).__name__}"
        )
    for name, parameter in parameters.items():
        if not isinstance(parameter, Tensor):
            raise GradientError(
                f"{function}: parameters[{name!r}] must be a Tensor with requires_grad, got "
                f"{type(parameter).__name__}; make it with tr.tensor(..., requires_grad=True)"
            )
    return dict(parameters)


def edge_to(leaf: Tensor) -> Edge:
    """Return the edge to a leaf.

    Raises:
        GradientError: if it does not require a gradient.
    """
    if leaf.node is None:
        raise GradientError(f"Recurrence: parameter {leaf.name or '?'} of shape {leaf.shape} has no requires_grad")
    return leaf.node, leaf.index


def steps_of(inputs: object) -> int:
    """Return T of inputs (N, T, ...).

    Raises:
        ShapeError: if they do not agree on N and T.
    """
    found = named_leaves("inputs", inputs)
    shapes = [shape_of(part) for _, part in found]
    if not shapes or any(len(shape) < 2 for shape in shapes) or len({shape[:2] for shape in shapes}) > 1:
        said = ", ".join(f"{name} {shape}" for (name, _), shape in zip(found, shapes, strict=True)) or "none"
        raise ShapeError(f"Recurrence.feed: expected inputs of shape (N, T, ...) that agree on N and T, got {said}")
    return int(shapes[0][1])
