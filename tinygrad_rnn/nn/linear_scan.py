"""The parallel scan: a linear recurrence over a whole sequence at once."""

from __future__ import annotations

from typing import cast

import numpy as np

from ..checks import flag
from ..engine.operands import operand
from ..engine.signatures import binary
from ..engine.tape import context
from ..engine.tensor import Operand, Value, shape_of
from ..errors import ShapeError
from ..ops import astype, broadcast_to, concatenate, flip, moveaxis
from ..ops.axes import one
from ..ops.recurrence import linear_recurrence
from .scan import repeated


@binary()
def linear_scan(
    a: Operand, b: Operand, initial: Operand | None = None, *, axis: int = 1, reverse: bool = False
) -> Value:
    """Return all h of a linear recurrence, h_t = a_t * h_{t-1} + b_t.

    In eager execution, spans of about sqrt(T) steps are computed side by side, then joined: 3 * sqrt(T) calls of NumPy
    instead of T. There is no division, so a may be 0. The backward pass is the same recurrence from the end. In a
    compiled function it is a loop like that of `scan`, limited only by memory bandwidth.
    Sources: Blelloch 1990, Prefix sums and their applications; Martin and Cundy 2018, Parallelizing linear recurrent
    neural nets over sequence length.

    Args:
        a: factors, of a shape that broadcasts to that of b; real or complex.
        b: inputs (N, T, ...).
        initial: h_{-1}, of a shape that broadcasts to (N, ...); None: zeros.
        axis: the axis of time.
        reverse: whether the recurrence runs from the last step to the first: h_t = a_t * h_{t+1} + b_t.

    Returns:
        h, of the shape of b.

    Raises:
        ShapeError: if b has no such axis or no step, or a or initial does not broadcast.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.linear_scan(0.5, np.ones((1, 4)))
    array([[1.   , 1.5  , 1.75 , 1.875]])
    """
    factors, inputs = operand(a, "linear_scan", "a"), operand(b, "linear_scan", "b")
    shape = inputs.shape
    axis = one("linear_scan", axis, shape)
    reverse = flag("linear_scan", "reverse", reverse)
    if not shape[axis]:
        raise ShapeError(f"linear_scan: expected b with at least one step along axis {axis}, got shape {shape}")
    step = shape[:axis] + shape[axis + 1 :]
    parts = [_spread("a", factors, shape), inputs]
    if initial is not None:
        parts.append(_spread("initial", operand(initial, "linear_scan", "initial"), step))
    dtype = np.result_type(*parts)
    parts = [part if part.dtype == dtype else astype(part, dtype) for part in parts]
    first = parts[2] if initial is not None else None
    factors, inputs = (moveaxis(part, axis, 0) for part in parts[:2])
    if context().tracer is not None or shape[axis] == 1:  # the derivatives of one step are constants
        start = np.zeros(step, dtype) if first is None else first
        states, _ = repeated(_step, start, (factors, inputs), shape[axis], reverse, 0)
        return moveaxis(cast(Value, states), 0, axis)
    if reverse:
        factors, inputs = flip(factors, 0), flip(inputs, 0)
    if first is not None:
        inputs = concatenate([inputs[:1] + factors[:1] * first, inputs[1:]], axis=0)
    h = linear_recurrence(factors, inputs)
    return moveaxis(flip(h, 0) if reverse else h, 0, axis)


def _step(x: tuple[Value, Value], h: Value) -> tuple[Value, Value]:
    a, b = x
    h = a * h + b
    return h, h


def _spread(argument: str, given: Value, shape: tuple[int, ...]) -> Value:
    try:
        fits = np.broadcast_shapes(shape_of(given), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"linear_scan: expected {argument} of a shape that broadcasts to {shape}, got {given.shape}")
    return broadcast_to(given, shape)
