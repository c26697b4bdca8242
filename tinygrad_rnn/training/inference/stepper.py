"""One step at a time: a model or a cell that reads a stream as it arrives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np

from ...checks import fits, flag
from ...engine.operands import operand
from ...engine.tape import Array, no_grad, slice_of_a_sequence
from ...engine.tensor import Operand, Tensor, Value, described
from ...engine.tree import map_leaves
from ...errors import ConfigError, ShapeError
from ...nn.base import batch_of_one
from ...nn.cells import Cell, State, check_callable, stepped
from .replayed import Plan, Replayed, array_of


class Stepper:
    """A model or a cell, called one step at a time, compiled: (output_t, state_t) = stepper(x_t, state_{t-1}).

    The stream's state is passed in and returned; the stepper itself has none, so one stepper serves any number of
    streams, each with N sequences side by side. The step is recorded at the first call with some N and replayed from
    then on (see `compile`). Parameters are read anew at each call, so training between two calls takes effect.
    Nothing is recorded for gradients.

    A model that cannot be compiled (a cell that branches on values, a state that grows or contains a counter) runs
    operation by operation, with the same results; one warning says why.

    Args:
        model: a model `model(ids, state) -> (output, state)` of ids (N, T) and an output (N, T, ...), such as an
            `RNNLM`; or a cell `cell(x, state) -> (output, state)` of x (N, D), such as an `LSTMCell` or `Stacked`.
        compiled: False: run it operation by operation.
        executor: "native", "numpy" or "auto", as in `compile`.
        threads: as in `compile`.
        time_axis: whether the model takes a time axis, and is given one of length T = 1: x (N, 1, ...). None: if x is
            (N,), as ids are, or the model says so itself (`model.time_axis`), as `RecurrentLayers` does.

    Attributes:
        model: as given.

    Raises:
        ConfigError: if `model` is not callable, a class, not called with a state, or reads in both directions; there is
            no such executor, or it does not return (output, state).
        ShapeError: when called with an x without an axis of streams, or if a model does not return (N, 1, ...).
        NativeError: when called, if executor="native" and the C library cannot be built.

    Warns:
        UserWarning: if it cannot be compiled.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(10, 8, 8, np.random.default_rng(0), cell="lstm")
    >>> step, state = tr.Stepper(model), None
    >>> for ids in ([1, 4], [2, 5], [3, 6]):  # two streams
    ...     logits, state = step(ids, state)
    >>> whole, _ = model(np.array([[1, 2, 3], [4, 5, 6]]))
    >>> logits.shape, bool(np.allclose(logits, whole.data[:, -1], atol=1e-6))
    ((2, 10), True)
    """

    def __init__(
        self,
        model: Cell,
        *,
        compiled: bool = True,
        executor: str | None = None,
        threads: int | None = None,
        time_axis: bool | None = None,
    ) -> None:
        check_callable("Stepper", model)
        if not fits(model, (None, None)):
            raise ConfigError(
                f"Stepper: {type(model).__name__} cannot be called as model(x, state); pass the part of it that can, a "
                "cell or RecurrentLayers (the attribute `layers` of a SequenceModel), and apply the rest to its output"
            )
        if getattr(model, "bidirectional", False) is True:
            raise ConfigError(
                f"Stepper: {type(model).__name__} reads in both directions, and its backward cell starts at the "
                "last step of a sequence; pass a model that reads forward only, or call it on whole sequences"
            )
        self.model = model
        if time_axis is None:
            time_axis = getattr(model, "time_axis", None)
        self._time_axis = None if time_axis is None else flag("Stepper", "time_axis", time_axis)
        step = partial(one_step, model, self._time_axis)
        self._step: Replayed[tuple[Array, State]] = Replayed(  # its results are arrays, whatever the step returns
            "Stepper",
            cast(Callable[..., tuple[Array, State]], step),
            compiled=compiled,
            executor=executor,
            threads=threads,
        )

    @property
    def compiled(self) -> Plan | None:
        """The compiled step, with its plans; None: it runs operation by operation."""
        return self._step.compiled

    @property
    def reason(self) -> str | None:
        """Why the step could not be compiled; None: it could, or was not tried yet."""
        return self._step.reason

    def initial_state(self, batch_size: int) -> State:
        """Return the model's initial state for N streams; None if it has none."""
        make = getattr(self.model, "initial_state", None)
        return None if make is None else make(batch_size)

    def __call__(self, x: Operand, state: State = None) -> tuple[Array, State]:
        """Read one step of each stream.

        Args:
            x: ids (N,), or vectors (N, D).
            state: the state that the previous call returned; None: `initial_state(N)`.

        Returns:
            The output (N, ...), such as logits (N, V), and the new state: arrays that belong to the caller.
        """
        if not isinstance(x, np.ndarray):
            x = operand(x, "Stepper", "x")
        if not x.ndim:
            raise ShapeError(f"Stepper: expected x of shape (N,) or (N, D), a step of each of N streams, got {x.shape}")
        self._check_axes("Stepper", "x", x, x.ndim)
        if state is None:
            state = self.initial_state(x.shape[0])
        return self._step(x, state)

    def read(self, xs: Operand, state: State = None) -> tuple[Array, State]:
        """Read T steps of each stream, such as prompts, one after another.

        A model that takes a time axis and is not compiled reads all of them at once.

        Args:
            xs: ids (N, T), or vectors (N, T, D), with T of 1 or more.
            state: the state that the previous call returned; None: `initial_state(N)`.

        Returns:
            The output (N, ...) of the last step, and the new state: arrays that belong to the caller.

        Raises:
            ShapeError: if there is no time axis, or it is empty.

        >>> import numpy as np, tinygrad_rnn as tr
        >>> step = tr.Stepper(tr.RNNLM(10, 8, 8, np.random.default_rng(0)))
        >>> logits, state = step.read([[1, 2, 3]])
        >>> again, _ = step([3], step.read([[1, 2]])[1])
        >>> bool(np.array_equal(logits, again))
        True
        """
        xs = operand(xs, "Stepper.read", "xs")
        if xs.ndim < 2 or not xs.shape[1]:
            raise ShapeError(f"Stepper.read: expected xs of shape (N, T) or (N, T, D) with T >= 1, got {xs.shape}")
        self._check_axes("Stepper.read", "xs", xs, xs.ndim - 1)
        if self.compiled is None and _has_time(self._time_axis, xs.ndim - 1):
            if state is None:
                state = self.initial_state(xs.shape[0])
            with no_grad(), slice_of_a_sequence():
                output, state = stepped(self.model, xs, state)
                last = output[:, -1]
            return cast(tuple[Array, State], map_leaves(array_of, (last, state)))
        last, state = self(xs[:, 0], state)
        for t in range(1, xs.shape[1]):
            last, state = self(xs[:, t], state)
        return last, state

    def _check_axes(self, function: str, name: str, given: Value, ndim: int) -> None:
        """Raise `ShapeError` if the steps of a cell, which are (N, D), have the axis D alone."""
        if self._time_axis is None and ndim == 1 and hasattr(self.model, "input_size"):
            letters = "(N, D)" if name == "x" else "(N, T, D)"
            raise ShapeError(
                f"{function}: expected {name} of shape {letters} with D = {self.model.input_size}, got {given.shape}"
                + batch_of_one(name, given, given.ndim)
            )


def _has_time(time_axis: bool | None, ndim: int) -> bool:
    """Return whether the model takes a time axis; unless told, it does where a step is (N,)."""
    return ndim == 1 if time_axis is None else time_axis


def one_step(model: Cell, time_axis: bool | None, x: Value, state: State) -> tuple[Value, State]:
    """Return what a model or a cell makes of one step x (N, ...): its output (N, ...), and the new state.

    Args:
        model, time_axis: as those of a `Stepper`.
        x: ids (N,), or vectors (N, D).
        state: before the step.

    Raises:
        ShapeError: if a model with a time axis does not take one, or does not return an output (N, 1, ...).
    """
    name = type(model).__name__
    hint = f"if {name} takes one step at a time, ids (N,), say so: time_axis = False in its class, or to Stepper"
    with slice_of_a_sequence():
        if not _has_time(time_axis, x.ndim):
            return stepped(model, x, state)
        try:
            output, state = stepped(model, x[:, None], state)
        except ShapeError as error:
            if time_axis is None:  # it was guessed
                raise ShapeError(f"{error}; {hint}") from error
            raise
    if not isinstance(output, Tensor | np.ndarray) or output.shape[:2] != (x.shape[0], 1):
        raise ShapeError(
            f"{name}: expected an output of shape (N, T, ...) = ({x.shape[0]}, 1, ...) for ids of shape (N, T), got "
            f"{described(output)}; {hint}"
        )
    return output[:, 0], state
