"""Unrolling: a cell repeated over a sequence, with cuts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar, cast

import numpy as np

from ..checks import integer
from ..engine.arrays import as_numbers
from ..engine.operands import check_nest, operand, without_gradient
from ..engine.tape import Array, context
from ..engine.tensor import Operand, Tensor, Value, described, shape_of
from ..engine.tree import aligned, map_leaves, structure
from ..errors import ConfigError, DTypeError, ShapeError
from ..ops import concatenate, cut, expand_dims, take_along_axis, where
from .base import in_words, with_batch_axis, without_batch_axis
from .cells import After, Before, Input, Output, State, axes_of_a_step, check_cell, initial_state, stepped
from .scan import Step, repeated
from .windows import mark_windows, uncut_windows

Earlier = TypeVar("Earlier")  # the state before and after a step of the backward cell
Later = TypeVar("Later")


def unroll(
    cell: Callable[[Input, Before], tuple[Output, After]],
    xs: Input,
    state: Before | None = None,
    cut_every: int | None = None,
    lengths: Operand | None = None,
) -> tuple[Output, After]:
    """Apply a cell to every step of a sequence and return all outputs and the last state.

    state_t, output_t = cell(x_t, state_{t-1}) for t = 0 .. T-1. In a compiled function it is recorded as a loop, with
    the cell called twice whatever T is, and a new T costs little; see `scan`.

    With `cut_every=n` the state is cut before the steps n, 2n, ...: the textbook's truncated BPTT. A loss reaches back
    at most n uses of the parameters, hence crosses at most n-1 state edges. The forward pass is bitwise unchanged. The
    returned state is *not* cut: between windows write `state = cut(state)`.

    Args:
        cell: any callable `cell(x, state) -> (output, state)`, x (N, D), output (N, H).
        xs: (N, T, D), Tensor or array (or a value that NumPy converts: nested lists, a table); or one sequence (T, D),
            whose outputs are (T, H), and whose states have no axis N either: (H,). A cell that says `time_axis = False`
            may read ids (N,) at a step: xs (N, T).
        state: state before the first step, any nesting of tuples, lists, dicts and dataclasses; None:
            `cell.initial_state(N)`.
        cut_every: steps between cuts; None: no cut (full BPTT).
        lengths: (N,) integers in [1, T], the true length of each sequence; None: all T. After its length a
            sequence's outputs are 0 and its state does not change; the padding, whatever it contains, neither gets nor
            gives a gradient. They may be an argument of a compiled function: one plan serves all lengths. The parts of
            the state are then (N, ...), or one number for all sequences, which changes until the longest has ended.

    Returns:
        outputs (N, T, H) and the state after the last step (for each sequence, after its own last step).

    Raises:
        ShapeError: if xs is not (N, T, D) or (T, D) with T >= 1, or lengths do not fit; with lengths, if a part of the
            state has another first axis than N, or the state changes its nesting after the first step.
        DTypeError: if xs are not numbers, lengths are not integers, or a part of the state is an object that is neither
            an array nor a number.
        ConfigError: if cut_every is not an integer of 1 or more, or the cell does not return (output, state).
        ValueError: if state is None and the cell has no `initial_state`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> outputs, state = tr.unroll(cell, np.ones((2, 5, 3), np.float32), cut_every=2)
    >>> outputs.shape, state.shape
    ((2, 5, 4), (2, 4))
    """
    check_cell("unroll", cell)
    sequence, N, T = _sequence("unroll", xs, cell)
    if sequence.ndim == axes_of_a_step(cell, sequence):
        before = cast("Before | None", with_batch_axis(state))
        batch = unroll(cell, cast(Input, expand_dims(sequence, 0)), before, cut_every, lengths)
        return cast(Output, cast(Value, batch[0])[0]), cast(After, without_batch_axis(batch[1]))
    cut_every = _checked_interval("unroll", cut_every)
    ends = _checked_lengths("unroll", lengths, N, T)
    start = initial_state(cell, N) if state is None else state
    check_nest(start, "unroll", "state")
    windows = uncut_windows(start)
    steps = T if ends is None else ends.steps
    parts = (sequence if steps == T else sequence[:, :steps], _active(ends, steps), _cuts(cut_every, steps))
    found, after = repeated(_Step(cell, structure(start)), start, parts, steps, False, 1)
    outputs = cast(Value, found)  # so says the check of each step
    mark_windows(after, windows)
    if steps < T:
        outputs = concatenate([outputs, np.zeros((N, T - steps, *outputs.shape[2:]), outputs.dtype)], axis=1)
    return cast(Output, outputs), cast(After, after)


class _Step:
    """One step of a cell within `unroll`: after a cut if there is one, and only for sequences that continue."""

    def __init__(self, cell: Step, nesting: str) -> None:
        self._cell = cell
        self._nesting = nesting  # of the state before the first step
        self._taken = 0
        self._shape: tuple[int, ...] | None = None

    def __call__(self, parts: tuple[Value, Value | None, Value | None], before: State) -> tuple[Value, State]:
        x, active, is_cut = parts
        start = before if is_cut is None else _cut_where(is_cut, before)
        if active is None or (isinstance(active, np.ndarray) and active.all()):
            output, state = stepped(self._cell, x, start)
        else:
            output, state = self._masked(x, start, before, active)
        checked = self._checked(output)
        self._taken += 1
        return checked, state

    def _masked(self, x: Value, start: State, before: State, active: Value) -> tuple[object, State]:
        """Step from `start` where a sequence goes on; elsewhere keep the state before.

        Padding is zeroed: it may be NaN. `start` is `before`, possibly after a cut: where a sequence has ended, nothing
        is cut any more.
        """
        output, state = stepped(self._cell, where(active[:, None] if x.ndim == 2 else active, x, 0), start)
        try:
            old = aligned(before, state)
        except ShapeError:
            if structure(before) != self._nesting:
                raise ShapeError(
                    f"unroll: with lengths, expected {self._name} to keep the nesting of its state, "
                    f"{structure(before)}, got {structure(state)} at step {self._taken}"
                ) from None
            return output, state  # the first step, as of (h, None): all sequences go on
        return _where(active, output, 0), map_leaves(partial(_where, active), state, old)

    @property
    def _name(self) -> str:
        return getattr(self._cell, "__name__", type(self._cell).__name__)

    def _checked(self, output: object) -> Value:
        """Return an output; reject one that is not an array, or does not have the shape of the previous ones."""
        if not isinstance(output, Tensor | np.ndarray) or output.ndim == 0:
            expected = "an output of shape (N, H)"
        elif self._shape is not None and output.shape != self._shape:
            expected = f"the output to have shape {self._shape} at each step, as at the first"
        else:
            self._shape = output.shape
            return output
        got = f"{described(output)} from {self._name} at step {self._taken}"
        raise ShapeError(f"unroll: expected {expected}, got {got}")


def _where(active: Value, new: object, old: Operand) -> object:
    """Return a part of a state or of an output, new where a sequence goes on.

    Raises:
        ShapeError: if its first axis is not that of the sequences.
    """
    if shape_of(new) == ():  # one number for all sequences, a step counter for instance
        if not isinstance(active, Tensor):
            return new  # eagerly, no step comes after the end of the longest sequence
        return where(without_gradient("any", np.any, active), cast(Value, new), old)
    part = cast(Value, new)
    if part.shape[0] != active.shape[0]:
        raise ShapeError(
            f"unroll: with lengths, expected each part of the state and the output to have shape (N, ...) = "
            f"({active.shape[0]}, ...), or () for one number, got {part.shape}; give it the axis of the sequences first"
        )
    return where(active.reshape(-1, *(1,) * (part.ndim - 1)), part, old)


def _active(ends: _Ends | None, steps: int) -> Value | None:
    """Return (N, T) booleans, whether a sequence continues at a step; None if all continue at every step."""
    return None if ends is None else np.reshape(ends.array, (-1, 1)) > np.arange(steps)


def _cuts(cut_every: int | None, steps: int) -> Array | None:
    """Return (1, T) booleans, whether the state before a step is cut; None if it never is."""
    if cut_every is None or cut_every >= steps:
        return None
    t = np.arange(steps)[None]
    return np.asarray((t % cut_every == 0) & (t > 0))


def _cut_where(is_cut: Value, state: State) -> State:
    """Cut a state or leave it; while a loop is recorded, it is cut at the steps where `is_cut` (1,) is True."""
    if isinstance(is_cut, np.ndarray):
        return cut(state) if is_cut[0] else state
    here = np.reshape(is_cut, ())

    def either(part: object) -> object:
        if not isinstance(part, Tensor | np.ndarray) or part.dtype.kind not in "fc":
            return part
        return where(here, cut(part), part)

    return map_leaves(either, state)


def bidirectional(
    forward: Callable[[Input, Before], tuple[Output, After]],
    backward: Callable[[Input, Earlier], tuple[Output, Later]],
    xs: Input,
    states: tuple[Before | None, Earlier | None] = (None, None),
    cut_every: int | None = None,
    lengths: Operand | None = None,
) -> tuple[Output, tuple[After, Later]]:
    """Apply one cell from left to right and another from right to left, and join their outputs.

    Source: Schuster and Paliwal 1997, Bidirectional recurrent neural networks.

    Args:
        forward: cell that reads from the first step to the last.
        backward: cell that reads from each sequence's last step to the first.
        xs: (N, T, D), Tensor or array; or one sequence (T, D), as in `unroll`.
        states: (state before the first step, state after the last step); None for initial states.
        cut_every: as in `unroll`, counted from the start of each direction.
        lengths: (N,) true lengths, as in `unroll`; the backward cell starts at each sequence's own end.

    Returns:
        outputs (N, T, 2H), [..., :H] from the forward cell, and both final states.

    Raises:
        ShapeError, DTypeError, ValueError: as `unroll`.
        ConfigError: inside a truncation policy that records a sequence in slices, or a `Stepper`: the backward cell
            starts at the end of the whole sequence, which a slice does not have.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> outputs, _ = tr.bidirectional(tr.RNNCell(3, 4, rng), tr.RNNCell(3, 4, rng), np.ones((2, 5, 3)))
    >>> outputs.shape
    (2, 5, 8)
    """
    if context().sliced:
        raise ConfigError(
            "bidirectional: the sequence comes in slices (from a truncation policy, or step by step from a Stepper or "
            "an export), but the backward cell starts at the end of the whole sequence; use Full() on whole sequences, "
            "cut_every= of bidirectional itself, or steps= of the export"
        )
    sequence, N, T = _sequence("bidirectional", xs, forward)
    cut_every = _checked_interval("bidirectional", cut_every)
    ends = _checked_lengths("bidirectional", lengths, N, T)
    if not isinstance(states, tuple | list) or len(states) != 2:
        raise ShapeError(
            "bidirectional: expected states (state before the first step, state after the last), each of them None or "
            f"a state, got {in_words(states)}"
        )
    if sequence.ndim == axes_of_a_step(forward, sequence):
        start = cast("tuple[Before | None, Earlier | None]", tuple(map(with_batch_axis, states)))
        batch = bidirectional(forward, backward, cast(Input, expand_dims(sequence, 0)), start, cut_every, lengths)
        after = cast("tuple[After, Later]", tuple(map(without_batch_axis, batch[1])))
        return cast(Output, cast(Value, batch[0])[0]), after
    checked = None if ends is None else ends.array
    if checked is None:
        order = backward_order(np.full(N, T), T)
    else:
        order = without_gradient("order", backward_order, checked, T)
    reverse = cast(Input, take_along_axis(sequence, order, axis=1))
    ahead, ahead_state = unroll(forward, xs, states[0], cut_every, checked)
    back, back_state = unroll(backward, reverse, states[1], cut_every, checked)
    turned = take_along_axis(cast(Value, back), order, axis=1)  # of type Output, which is an array
    outputs = concatenate([cast(Value, ahead), turned], axis=2)
    return cast(Output, outputs), (ahead_state, back_state)


def _sequence(function: str, xs: object, cell: object) -> tuple[Value, int, int]:
    """Return a sequence as a Tensor or an array, (N, T, D) or (T, D), or ids (N, T) or (T,), and its N and T."""
    sequence = operand(xs, function, "xs")
    axes = axes_of_a_step(cell, sequence)
    if sequence.ndim not in (axes, axes + 1) or sequence.shape[-axes] < 1:
        wanted = "(N, T, D)" if axes == 2 else "(N, T)"
        raise ShapeError(f"{function}: expected xs of shape {wanted} with T >= 1, got {sequence.shape}")
    if axes == 1:
        return sequence, *(1, *sequence.shape)[-2:]
    D = getattr(cell, "input_size", sequence.shape[-1])
    if sequence.ndim == 2 and sequence.shape[-1] != D:
        raise ShapeError(
            f"{function}: expected xs of shape (N, T, D) = (N, T, {D}), or (T, D) = (T, {D}) for one sequence, got "
            f"{sequence.shape}; add the axis D to N series (N, T) of numbers: xs[..., None]"
        )
    return sequence, *(1, *sequence.shape)[-3:-1]


def _checked_interval(function: str, cut_every: object) -> int | None:
    return None if cut_every is None else integer(function, "cut_every", cut_every)


class _Ends(NamedTuple):
    """Where sequences end: their lengths (N,), and the number of steps to take."""

    array: Array
    steps: int


def _checked_lengths(function: str, lengths: Operand | None, N: int, T: int) -> _Ends | None:
    """Return where sequences end; while `compile` records, this must hold for all lengths, checked by each replay."""
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor):
        lengths = as_numbers(lengths, f"{function}: lengths")
    if lengths.dtype.kind not in "iu":
        raise DTypeError(f"{function}: expected integer lengths, got dtype {lengths.dtype} of shape {lengths.shape}")
    if lengths.shape != (N,):
        raise ShapeError(f"{function}: expected lengths of shape (N,) = ({N},), got {lengths.shape}")
    array: Array = without_gradient("lengths", partial(_in_range, function=function, T=T), lengths)
    if context().tracer is not None:
        return _Ends(array, T)
    return _Ends(array, int(array.max(initial=1)))


def _in_range(lengths: Array, function: str, T: int) -> Array:
    if lengths.size and not 1 <= lengths.min() <= lengths.max() <= T:
        raise ShapeError(f"{function}: lengths must lie in [1, T] = [1, {T}], got {lengths.min()} to {lengths.max()}")
    return lengths.astype(np.intp)


def backward_order(lengths: Array, T: int) -> Array:
    """Return the steps (N, T, 1) of each sequence, reversed within its own length. The order is its own inverse."""
    t, last = np.arange(T)[None, :, None], lengths[:, None, None]
    return np.where(t < last, last - 1 - t, t)  # padding stays where it is
