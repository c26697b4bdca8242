"""Time: a cell repeated over a sequence, with cuts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.tape import Array, at_step, context
from ..engine.tensor import Operand, Tensor, shape_of
from ..engine.tree import map_leaves
from ..errors import ConfigError, DTypeError, ShapeError
from ..ops import concatenate, cut, stack, take_along_axis, unstack, where
from .cells import Cell, State


def unroll(
    cell: Cell, xs: Operand, state: State = None, cut_every: int | None = None, lengths: Any = None
) -> tuple[Any, State]:
    """Apply a cell to every step of a sequence and return all outputs and the last state.

    state_t, output_t = cell(x_t, state_{t-1}) for t = 0 .. T-1.

    With `cut_every=n` the state is cut before the steps n, 2n, ...: the chapter's truncated BPTT. A loss reaches back
    at most n uses of the parameters, hence crosses at most n-1 state edges. Going forward nothing changes, bit by bit.
    The state that is returned is *not* cut: between windows write `state = cut(state)`.

    Args:
        cell: any callable `cell(x, state) -> (output, state)`, x (N, D), output (N, H).
        xs: (N, T, D), Tensor or array.
        state: state before the first step, any nesting of tuples; None: `cell.initial_state(N)`.
        cut_every: steps between cuts; None: no cut (full BPTT).
        lengths: (N,) integers in [1, T], the true length of each sequence; None: all T. Behind its length a
            sequence's outputs are 0 and its state stays what it was; the padding, whatever it holds, gets no gradient
            and gives none.

    Returns:
        outputs (N, T, H) and the state after the last step (for each sequence, after its own last step).

    Raises:
        ShapeError: if xs is not (N, T, D) with T >= 1, or lengths do not fit.
        DTypeError: if lengths are not integers.
        ValueError: if cut_every is below 1, or state is None and the cell has no `initial_state`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> outputs, state = tr.unroll(cell, np.ones((2, 5, 3), np.float32), cut_every=2)
    >>> outputs.shape, state.shape
    ((2, 5, 4), (2, 4))
    """
    N, T = _check_sequence("unroll", xs)
    if cut_every is not None and cut_every < 1:
        raise ValueError(f"unroll: cut_every must be at least 1 step, got {cut_every}")
    ends = _check_lengths("unroll", lengths, N, T)
    if state is None:
        state = initial_state(cell, N)
    first = context().step or 0  # a slice of a sequence counts on from the step that is open
    steps = unstack(xs, axis=1)
    outputs: list[Any] = []
    for t in range(T if ends is None else int(ends.max())):
        with at_step(first + t):
            if cut_every is not None and t and t % cut_every == 0:
                state = cut(state)
            if ends is None or (ends > t).all():
                output, state = cell(steps[t], state)
            else:
                output, state = _masked_step(cell, steps[t], state, ends > t)
            outputs.append(output)
    return stack(outputs + [np.zeros_like(outputs[0])] * (T - len(outputs)), axis=1), state


def bidirectional(
    forward: Cell,
    backward: Cell,
    xs: Operand,
    states: tuple[State, State] = (None, None),
    cut_every: int | None = None,
    lengths: Any = None,
) -> tuple[Any, tuple[State, State]]:
    """Apply one cell from left to right and another from right to left, and join their outputs.

    Source: Schuster and Paliwal 1997, Bidirectional recurrent neural networks.

    Args:
        forward: cell that reads from the first step to the last.
        backward: cell that reads from each sequence's last step to the first.
        xs: (N, T, D), Tensor or array.
        states: (state before the first step, state behind the last step); None for initial states.
        cut_every: as in `unroll`, for each direction counted from its own start.
        lengths: (N,) true lengths, as in `unroll`; the backward cell starts at each sequence's own end.

    Returns:
        outputs (N, T, 2H), [..., :H] from the forward cell, and both final states.

    Raises:
        ShapeError, DTypeError, ValueError: as `unroll`.
        ConfigError: inside a truncation policy that records a sequence in slices: the backward cell starts at the end
            of the whole sequence, which a slice does not have.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> outputs, _ = tr.bidirectional(tr.RNNCell(3, 4, rng), tr.RNNCell(3, 4, rng), np.ones((2, 5, 3)))
    >>> outputs.shape
    (2, 5, 8)
    """
    if context().sliced:
        raise ConfigError(
            "bidirectional: this truncation policy records the sequence in slices, but the backward cell starts at the "
            "end of the whole sequence; use Full() on whole sequences, or cut_every= of bidirectional itself"
        )
    N, T = _check_sequence("bidirectional", xs)
    ends = _check_lengths("bidirectional", lengths, N, T)
    # Each sequence is reversed within its own length; padding stays where it is. The order is its own inverse.
    t = np.arange(T)[None, :, None]
    last = (np.full(N, T) if ends is None else ends)[:, None, None]
    order = np.where(t < last, last - 1 - t, t)
    ahead, ahead_state = unroll(forward, xs, states[0], cut_every, ends)
    back, back_state = unroll(backward, take_along_axis(xs, order, axis=1), states[1], cut_every, ends)
    return concatenate([ahead, take_along_axis(back, order, axis=1)], axis=2), (ahead_state, back_state)


def initial_state(cell: Any, batch_size: int) -> State:
    """Return `cell.initial_state(batch_size)`.

    Raises:
        ValueError: if the cell has none.
    """
    if not hasattr(cell, "initial_state"):
        name = getattr(cell, "__name__", type(cell).__name__)
        raise ValueError(f"unroll: the cell {name} has no initial_state(batch_size); pass state=")
    return cell.initial_state(batch_size)


def _masked_step(cell: Cell, x: Operand, state: State, active: Array) -> tuple[Any, State]:
    """Step where a sequence goes on; elsewhere keep its state. Padding is zeroed first: it may even hold NaN."""

    def choose(new: Any, old: Any) -> Any:
        if not isinstance(new, Tensor | np.ndarray) or new.ndim == 0:
            return new  # a step counter or the like, the same for all sequences
        return where(active.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    output, new_state = cell(where(active[:, None], x, 0), state)
    return choose(output, 0), map_leaves(choose, new_state, state)


def _check_sequence(function: str, xs: Operand) -> tuple[int, int]:
    shape = shape_of(xs)
    if len(shape) != 3 or shape[1] < 1:
        raise ShapeError(f"{function}: expected xs of shape (N, T, D) with T >= 1, got {shape}")
    return shape[0], shape[1]


def _check_lengths(function: str, lengths: Any, N: int, T: int) -> Array | None:
    if lengths is None:
        return None
    ends = np.asarray(lengths)
    if ends.dtype.kind not in "iu":
        raise DTypeError(f"{function}: expected integer lengths, got dtype {ends.dtype}")
    if ends.shape != (N,):
        raise ShapeError(f"{function}: expected lengths of shape (N,) = ({N},), got {ends.shape}")
    if ends.min() < 1 or ends.max() > T:
        raise ShapeError(f"{function}: lengths must lie in [1, T] = [1, {T}], got {ends.min()} to {ends.max()}")
    return ends
