"""The driver: records a recurrence in segments, and runs the backward passes that a policy asks for.

Each segment is a graph of its own, from leaves that hold the state before it to the state after it. A backward pass
goes over the segments from newest to oldest and passes the cotangent of each segment's first state, times the policy's
factor for that edge, to the previous segment. Every policy is therefore the same loop; only a policy that recomputes
records anything twice; a cut does not change the recorded graph; and segments that are too far back are freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..credit.forward import ForwardPolicy, ForwardRecurrence
from ..credit.nests import (
    added,
    arrays_of,
    edge_to,
    floats,
    fresh_leaf,
    is_float,
    leaves_of,
    loss_and_state,
    number_of,
    one_for,
    steps_of,
    value_of,
    with_floats,
)
from ..credit.policy import Policy
from ..credit.update import Step, Update
from ..engine.tape import Array, Edge, context, slice_of_a_sequence
from ..engine.tensor import Operand, Tensor, shape_of
from ..engine.tree import map_leaves
from ..engine.walk import own, pull_back
from ..errors import ConfigError, ShapeError, TraceError
from .parse import parse_policy


@dataclass
class _Segment:
    start: int
    stop: int
    inputs: object
    before: object  # the state before it: leaves of this segment's graph
    after: object  # the state after it; results of the graph
    loss: Operand | None
    rng_state: Mapping[str, object] | None


class Recurrence:
    """A recurrence that is fed with inputs as they arrive, and yields the updates that a policy calls for.

    Args:
        step: `step(inputs, state) -> (loss, state)`. It gets slices of the inputs along time (axis 1), and returns the
            sum of its losses (a single element; None where there is none) and the new state. A reduction over time
            that crosses slices cannot be written in it: carry it in the state (a running sum or maximum).
        parameters: name to leaf Tensor.
        policy: a truncation policy, or its text.
        state: the state before the first step, any nesting of tuples. rng: the generator that `step` draws from, if
        any; a policy that recomputes rewinds it.

    Raises:
        ShapeError: when fed with inputs that do not agree on N and T.
        GradientError: if `step` does not return a pair, or its loss is not a single element; if a parameter is not a
            leaf Tensor.
        ConfigError: if there is no such policy, or it scales an edge where it allows no cut.

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
    ) -> None:
        followed = parse_policy(policy, argument="Recurrence: policy")
        self._step = step
        self._parameters = leaves_of(parameters, "Recurrence")
        if context().tracer is not None and decides(followed):
            raise TraceError(
                f"compile: {followed!r} decides anew for each sequence where it cuts, and a plan would freeze that; "
                "use the driver outside of compiled functions"
            )
        self._forward: ForwardRecurrence | None = None
        if isinstance(followed, ForwardPolicy):
            self._forward = ForwardRecurrence(step, self._parameters, followed, state)
        self._policy = followed.start()
        self._rng = rng
        self._state = arrays_of(state)
        self._alive: list[_Segment] = []
        self._begin = 0  # losses before this step are already covered by a pass
        self._now = 0

    @property
    def state(self) -> Any:
        """The state after the last step, arrays without a graph."""
        return self._state if self._forward is None else self._forward.state

    @property
    def alive_steps(self) -> int:
        """Number of steps whose graph (or, with recomputation, whose first state) is currently held."""
        return sum(segment.stop - segment.start for segment in self._alive)

    @property
    def holds_past(self) -> bool:
        """Whether anything of the past is held beside the state: live steps, or credit that is carried forward."""
        return bool(self._alive) or (self._forward is not None and self._forward.carry is not None)

    def feed(self, inputs: object) -> Iterator[Update]:
        """Run the next steps, and yield the update of each pass that is due; the remaining losses wait for more.

        Parameters may be updated between two updates: live segments keep the values they were recorded with.

        Args:
            inputs: an array (N, T, ...), or any nesting of them, T the same for all.
        """
        if self._forward is not None:
            yield from self._forward.feed(inputs)
            return
        T = steps_of(inputs)
        done = 0
        while done < T:
            length = min(T - done, self._until_border())
            self._record(map_leaves(lambda x, a=done, b=done + length: x[:, a:b], inputs), length)
            done += length
            if self._policy.every is not None and self._now % self._policy.every == 0:
                yield self._backward()

    def finish(self) -> Update | None:
        """Run a pass for the losses that still wait for one, even if it is not due; None if there are none."""
        if self._forward is not None:
            return self._forward.finish()
        return self._backward() if self._begin < self._now else None

    def _until_border(self) -> int:
        borders = [n for n in (self._policy.every, self._policy.grain) if n is not None]
        return min((n - self._now % n for n in borders), default=2**62)

    def _record(self, inputs: object, length: int) -> None:
        before = map_leaves(fresh_leaf, self._state)
        rng_state = self._rng.bit_generator.state if self._rng is not None and self._policy.recompute else None
        loss, after = self._run_step(inputs, before)
        segment = _Segment(self._now, self._now + length, inputs, before, after, loss, rng_state)
        self._state = arrays_of(after)
        if self._policy.recompute:
            segment.loss, segment.after = None if loss is None else number_of(loss), None
        self._alive.append(segment)
        self._now += length

    def _run_step(self, inputs: object, before: object) -> tuple[Operand | None, object]:
        whole = self._policy.every is None and self._policy.grain is None  # then the input is not split
        with nullcontext() if whole else slice_of_a_sequence():
            return loss_and_state(self._step(inputs, before), "Recurrence")

    def _backward(self) -> Update:
        policy, end, begin = self._policy, self._now, self._begin
        sums: dict[str, Array] = {}
        losses: list[float] = []
        norms: list[tuple[int, float]] = []
        carried: Sequence[Array | None] | None = None  # cotangents of the state after the segment; None: all zero
        scale = 1.0
        for segment in reversed(self._alive):
            if segment.start >= begin and segment.loss is not None:
                losses.append(number_of(segment.loss))
            if scale == 0 and segment.stop <= begin:
                break
            for edge in range(segment.start + 1, segment.stop):
                if policy.factor(edge, end) != 1:
                    raise ConfigError(
                        f"{policy!r} scales edge {edge}, which lies inside a segment: its grain must divide {edge}"
                    )
            scale = policy.factor(segment.start, end) if segment.start else 1.0
            carried = self._pull(segment, carried, scale != 0, segment.start >= begin, sums)
            if carried is not None:
                norms.append((segment.start, self._norm(carried)))
                if scale != 1:
                    carried = [None if g is None else g * scale for g in carried]
        first = None
        if self._alive and self._alive[0].start == 0 and norms and norms[-1][0] == 0 and carried is not None:
            zeros = [np.zeros(shape_of(h), value_of(h).dtype) for h in floats(self._alive[0].before)]
            filled = [z if g is None else g for g, z in zip(carried, zeros, strict=True)]
            first = with_floats(arrays_of(self._alive[0].before), filled)
        policy.observe(end, begin, norms)
        self._begin = end
        self._forget()
        gradients = {
            name: sums[name] if name in sums else np.zeros(p.shape, p.dtype) for name, p in self._parameters.items()
        }
        return Update(end, losses[::-1], gradients, self._state, first)

    def _norm(self, carried: Sequence[Array | None]) -> float:
        if type(self._policy).observe is Policy.observe:
            return 0.0  # it is not used
        return float(np.sqrt(sum(np.vdot(g, g).real for g in carried if g is not None)))

    def _pull(
        self,
        segment: _Segment,
        carried: Sequence[Array | None] | None,
        through: bool,
        is_new: bool,
        sums: dict[str, Array],
    ) -> list[Array | None] | None:
        """Go back over one segment: add to `sums`, and return the cotangents of its first state (None: all zero)."""
        if carried is None and not (is_new and segment.loss is not None):
            return None
        before, after, loss = segment.before, segment.after, segment.loss
        if self._policy.recompute:
            before, after, loss = self._again(segment)
        seeds: list[tuple[Edge, Array]] = []
        if is_new and isinstance(loss, Tensor) and loss.node is not None:
            seeds.append(((loss.node, loss.index), one_for(loss)))
        for h, g in zip(floats(after), carried or [], strict=carried is not None):
            if g is not None and isinstance(h, Tensor) and h.node is not None:
                seeds.append(((h.node, h.index), g))
        if not seeds:
            return None
        places = {name: edge_to(p) for name, p in self._parameters.items()}
        states = [edge_to(h) for h in floats(before)] if through else []
        tracer = context().tracer
        found = pull_back(seeds, [*places.values(), *states], None if tracer is None else tracer.lift)
        names = [name for name, place in places.items() if place in found]
        gradients = [found[places[name]] for name in names]
        for name, g in zip(names, own(gradients) if tracer is None else gradients, strict=True):
            sums[name] = g if name not in sums else added(sums[name], g, places[name])
        if not any(place in found for place in states):
            return None
        return [found.get(place) for place in states]

    def _again(self, segment: _Segment) -> tuple[object, object, Operand | None]:
        before = map_leaves(fresh_leaf, arrays_of(segment.before))
        if self._rng is None or segment.rng_state is None:
            loss, after = self._run_step(segment.inputs, before)
            return before, after, loss
        now = self._rng.bit_generator.state
        self._rng.bit_generator.state = segment.rng_state
        try:
            loss, after = self._run_step(segment.inputs, before)
        finally:
            self._rng.bit_generator.state = now
        return before, after, loss

    def _forget(self) -> None:
        """Drop the segments that no later pass can reach."""
        every, reach = self._policy.every, self._policy.reach
        if every is None:
            self._alive = []
            return
        if reach is None:  # no limit except a cut: without one here, later passes may go back through the live segments
            if self._policy.factor(self._now, self._now + every) == 0:
                self._alive = []
            return
        oldest = self._now + every - reach  # the next pass is at now + every, and reaches back `reach` uses
        self._alive = [segment for segment in self._alive if segment.stop > oldest]


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
