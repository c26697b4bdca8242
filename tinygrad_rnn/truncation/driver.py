"""The driver: a recurrence that is fed with inputs, and yields the updates that its policy calls for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..checks import flag
from ..credit.forward import ForwardPolicy, ForwardRecurrence
from ..credit.nests import added, edge_to, is_float, leaves_of
from ..credit.policy import Policy
from ..credit.update import Past, Step, Update
from ..engine.operands import check_nest
from ..engine.tape import context
from ..engine.tensor import Tensor
from ..engine.tree import map_leaves
from ..errors import ConfigError, ShapeError, TraceError
from .backward import BackwardRecurrence
from .parse import parse_policy


class Recurrence:
    """A recurrence that is fed with inputs as they arrive, and yields the updates that a policy calls for.

    Args:
        step: `step(inputs, state) -> (loss, state)`. It gets slices of the inputs along time (axis 1), and returns the
            sum of its losses (a single element; None where there is none) and the new state. A reduction over time
            that crosses slices cannot be written in it: carry it in the state (a running sum or maximum).
        parameters: name to leaf Tensor.
        policy: a truncation policy, or its text.
        state: the state before the first step, any nesting of tuples, lists, dicts and dataclasses of arrays.
        rng: the generator that `step` draws from, if any; a policy that recomputes rewinds it.
        carry: for a policy that carries credit forward, the `carry` of the recurrence that this one continues.
        resumable: whether `past` will be asked for. Under a policy that goes back, the inputs of each step that is
            alive, and the parameters that it was recorded with, are held for it.
        past: the `past` of the recurrence that this one continues, in another process for instance; `state` and `rng`
            are then that recurrence's, and the parameters those of now.

    Raises:
        ShapeError: when fed with inputs that do not agree on N and T.
        GradientError: if `step` does not return a pair, or its loss is not a single element; if a parameter is not a
            leaf Tensor.
        ConfigError: if there is no such policy, or it scales an edge where it allows no cut, or has not enough memory.
        DTypeError: if a part of the state is an object that is neither an array nor a number.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True)
    >>> def step(xs, h):
    ...     total = 0.0
    ...     for t in range(xs.shape[1]):
    ...         h = h * w + xs[:, t]
    ...         total = total + h.sum()
    ...     return total, h
    >>> run = tr.Recurrence(step, {"w": w}, tr.Chunked(2), np.ones(1))
    >>> [(update.end, float(update.gradients["w"])) for update in run.feed(np.ones((1, 5)))]
    [(2, 6.0), (4, 36.0)]
    >>> float(run.finish().gradients["w"])
    31.0
    """

    def __init__(
        self,
        step: Step,
        parameters: Mapping[str, Tensor],
        policy: Policy | str,
        state: object,
        rng: np.random.Generator | None = None,
        carry: object = None,
        resumable: bool = False,
        past: Past | None = None,
    ) -> None:
        followed = parse_policy(policy, argument="Recurrence: policy")
        named = leaves_of(parameters, "Recurrence")
        check_nest(state, "Recurrence", "state")
        if context().tracer is not None and decides(followed):
            raise TraceError(
                f"compile: {followed!r} decides anew for each sequence where it cuts, and a plan would freeze that; "
                "use the driver outside of compiled functions"
            )
        if context().tracer is not None and followed.budget is not None:
            raise TraceError(
                f"compile: {followed!r} measures a recorded step to find how many states it may keep, and a compiled "
                "function records none that could be measured; give the number of states instead"
            )
        self._resumable = flag("Recurrence", "resumable", resumable) or past is not None
        self._run: BackwardRecurrence | ForwardRecurrence
        if isinstance(followed, ForwardPolicy):
            self._run = ForwardRecurrence(step, named, followed, state, carry=carry, past=past)
        else:
            self._run = BackwardRecurrence(step, named, followed, state, rng, self._resumable, past)

    @property
    def state(self) -> Any:
        """The state after the last step, arrays without a graph."""
        return self._run.state

    @property
    def alive_steps(self) -> int:
        """Number of steps whose graph (or, with recomputation, whose first state) is currently held."""
        return self._run.alive_steps

    @property
    def carry(self) -> object:
        """What a policy that carries credit forward has carried so far, a nesting of arrays; None for all others."""
        return self._run.carry

    @property
    def past(self) -> Past:
        """What a recurrence that continues this one needs besides its `state`, which files can hold.

        Arrays, numbers and generators in nestings: under a policy that goes back, the inputs, states and parameters of
        the steps that are alive; under one that carries credit forward, what is carried; the draws of a policy.

        Raises:
            ConfigError: if the recurrence was made without `resumable=True`.

        >>> import numpy as np, tinygrad_rnn as tr
        >>> w, xs = tr.tensor(2.0, requires_grad=True), np.ones((1, 5))
        >>> def step(xs, h):
        ...     h = h * w + xs[:, 0]
        ...     return h.sum(), h
        >>> run = tr.Recurrence(step, {"w": w}, tr.Windowed(3), np.ones(1), resumable=True)
        >>> _ = [*run.feed(xs[:, :4])]
        >>> other = tr.Recurrence(step, {"w": w}, tr.Windowed(3), run.state, past=run.past)
        >>> [float(update.gradients["w"]) for one in (run, other) for update in one.feed(xs[:, 4:])]
        [89.0, 89.0]
        """
        if not self._resumable:
            raise ConfigError(
                "Recurrence.past: make the recurrence with resumable=True; nothing is held for it otherwise"
            )
        return self._run.past

    def feed(self, inputs: object) -> Iterator[Update]:
        """Run the next steps, and yield the update of each pass that is due; the remaining losses wait for more.

        Parameters may be updated between two updates: live segments keep the values they were recorded with.

        Args:
            inputs: an array (N, T, ...), or any nesting of them, T the same for all.
        """
        return self._run.feed(inputs)

    def finish(self) -> Update | None:
        """Run a pass for the losses that still wait for one, even if it is not due; None if there are none."""
        return self._run.finish()


def decides(policy: Policy) -> bool:
    """Return whether a policy draws, or observes norms, to choose its cuts."""
    return type(policy).start is not Policy.start or type(policy).observe is not Policy.observe


def bptt(
    step: Step,
    parameters: Mapping[str, Tensor],
    inputs: object,
    state: object,
    policy: Policy | str,
    rng: np.random.Generator | None = None,
) -> Update:
    """Return losses, gradient and last state of a whole sequence under a truncation policy.

    Args:
        step: as in `Recurrence`.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them.
        state: before the first step.
        policy: a truncation policy, or its text; the one draw of a random text is that of seed 0.
        rng: as in `Recurrence`.

    Returns:
        One Update for the sequence: the gradients of all its passes added up, `sum(M * C)` for M = policy.mask(T).

    Raises:
        ShapeError, GradientError, ConfigError: as `Recurrence`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> def step(xs, state):
    ...     outputs, state = tr.unroll(cell, xs, state)
    ...     return np.sum(outputs * outputs), state
    >>> found = tr.bptt(step, cell.parameters(), np.ones((2, 9, 3)), cell.initial_state(2), tr.Windowed(4))
    >>> len(found.losses), found.gradients["Wh"].shape
    (9, (4, 4))
    """
    policy = parse_policy(policy, argument="bptt: policy")
    total: Update | None = None
    for update in stream(step, parameters, [inputs], state, policy, rng):
        total = update if total is None else _added(total, update, parameters)
    if total is None:
        raise ShapeError("bptt: the inputs have no steps; expected (N, T, ...) with T >= 1")
    return total


def _added(total: Update, update: Update, parameters: Mapping[str, Tensor]) -> Update:
    """Add the next update to the sum so far, in place: no more than two gradients are held at a time."""
    for name, g in update.gradients.items():
        total.gradients[name] = added(total.gradients[name], g, edge_to(parameters[name]))
    total.losses.extend(update.losses)
    first = total.state_gradient
    if first is None:
        first = update.state_gradient
    elif update.state_gradient is not None:
        first = map_leaves(lambda a, b: a + b if is_float(a) else a, first, update.state_gradient)
    return update._replace(losses=total.losses, gradients=total.gradients, state_gradient=first)


def stream(
    step: Step,
    parameters: Mapping[str, Tensor],
    windows: Iterable[object],
    state: object,
    policy: Policy | str,
    rng: np.random.Generator | None = None,
) -> Iterator[Update]:
    """Yield the updates of a stream of consecutive windows, of any length, in constant memory.

    Windows need not be as long as the policy's: passes run where the policy says, and a longer window is split. A
    segment of the graph never spans two windows, so short windows make more and smaller segments. Parameters may be
    updated between two updates. With a policy whose `every` is None there is a single update, at the end, and memory
    grows.

    Args:
        step: as in `Recurrence`.
        parameters: name to leaf Tensor.
        windows: inputs, arrays (N, t, ...) or any nesting of them.
        state: before the first step.
        policy: a truncation policy, or its text; the one draw of a random text is that of seed 0.
        rng: as in `Recurrence`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(0.5, requires_grad=True)
    >>> def step(xs, h):
    ...     h = h * w + xs[:, 0]
    ...     return h.sum(), h
    >>> windows = (np.ones((1, 1)) for _ in range(6))
    >>> [update.end for update in tr.stream(step, {"w": w}, windows, np.zeros(1), tr.Windowed(3))]
    [1, 2, 3, 4, 5, 6]
    """
    run = Recurrence(step, parameters, parse_policy(policy, argument="stream: policy"), state, rng)
    for inputs in windows:
        yield from run.feed(inputs)
    last = run.finish()
    if last is not None:
        yield last
