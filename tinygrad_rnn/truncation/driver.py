"""The driver: records a recurrence in segments, and runs the backward passes that a policy asks for.

Each segment is a graph of its own, from leaves that hold the state before it to the state after it. A backward pass
goes over the segments from newest to oldest and passes the cotangent of each segment's first state, times the policy's
factor for that edge, to the previous segment. Every policy is therefore the same loop; only a policy that recomputes
records anything twice; a cut does not change the recorded graph; and segments that are too far back are freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from ..credit.forward import ForwardPolicy, ForwardRecurrence
from ..credit.nests import (
    added,
    arrays_of,
    edge_to,
    floats,
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
from .segments import Graph, Recomputed, Segments


class Recurrence:
    """A recurrence that is fed with inputs as they arrive, and yields the updates that a policy calls for.

    Args:
        step: `step(inputs, state) -> (loss, state)`. It gets slices of the inputs along time (axis 1), and returns the
            sum of its losses (a single element; None where there is none) and the new state. A reduction over time
            that crosses slices cannot be written in it: carry it in the state (a running sum or maximum).
        parameters: name to leaf Tensor.
        policy: a truncation policy, or its text.
        state: the state before the first step, any nesting of tuples.
        rng: the generator that `step` draws from, if any; a policy that recomputes rewinds it.
        carry: for a policy that carries credit forward, the `carry` of the recurrence that this one continues.

    Raises:
        ShapeError: when fed with inputs that do not agree on N and T.
        GradientError: if `step` does not return a pair, or its loss is not a single element; if a parameter is not a
            leaf Tensor.
        ConfigError: if there is no such policy, or it scales an edge where it allows no cut, or has not enough memory.

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
    ) -> None:
        followed = parse_policy(policy, argument="Recurrence: policy")
        self._parameters = leaves_of(parameters, "Recurrence")
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
        self._forward: ForwardRecurrence | None = None
        if isinstance(followed, ForwardPolicy):
            self._forward = ForwardRecurrence(step, self._parameters, followed, state, carry=carry)
        self._policy = followed.start()
        self._state = arrays_of(state)
        whole = self._policy.every is None and self._policy.grain is None  # then the input is not split
        run = partial(_run, step, nullcontext if whole else slice_of_a_sequence)
        self._segments = Recomputed(run, rng, self._policy) if self._policy.recompute else Segments(run)
        self._begin = 0  # losses before this step are already covered by a pass
        self._now = 0

    @property
    def state(self) -> Any:
        """The state after the last step, arrays without a graph."""
        return self._state if self._forward is None else self._forward.state

    @property
    def alive_steps(self) -> int:
        """Number of steps whose graph (or, with recomputation, whose first state) is currently held."""
        return self._segments.steps()

    @property
    def carry(self) -> object:
        """What a policy that carries credit forward has carried so far, a nesting of arrays; None for all others."""
        return None if self._forward is None else self._forward.carry

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
        self._segments.expect(self._segments_to_come(T))
        while done < T:
            length = min(T - done, self._until_border())
            some = map_leaves(lambda x, a=done, b=done + length: x[:, a:b], inputs)
            self._state = self._segments.add(self._now, self._now + length, some, self._state)
            self._now += length
            done += length
            if self._policy.every is not None and self._now % self._policy.every == 0:
                yield self._backward()
                self._segments.expect(self._segments_to_come(T - done))

    def finish(self) -> Update | None:
        """Run a pass for the losses that still wait for one, even if it is not due; None if there are none."""
        if self._forward is not None:
            return self._forward.finish()
        return self._backward() if self._begin < self._now else None

    def _until_border(self) -> int:
        borders = [n for n in (self._policy.every, self._policy.grain) if n is not None]
        return min((n - self._now % n for n in borders), default=2**62)

    def _segments_to_come(self, fed: int) -> int:
        """Return the number of segments before the next pass, of which the first `fed` steps are there."""
        now, every, grain = self._now, self._policy.every, self._policy.grain
        end = now + fed if every is None else (now // every + 1) * every
        split = min(end, now + fed)
        if grain is None:
            return (split > now) + (end > split)
        return sum(-(-b // grain) - a // grain for a, b in ((now, split), (split, end)) if a < b)

    def _backward(self) -> Update:
        policy, end, begin = self._policy, self._now, self._begin
        sums: dict[str, Array] = {}
        losses: list[float] = []
        norms: list[tuple[int, float]] = []
        carried: Sequence[Array | None] | None = None  # cotangents of the state after the segment; None: all zero
        scale = 1.0
        alive = self._segments.all
        for index, segment in reversed([*enumerate(alive)]):
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
            if carried is not None or (segment.start >= begin and segment.loss is not None):
                graph = self._segments.graph(index)
                carried = self._pull(graph, carried, scale != 0, segment.start >= begin, sums)
                del graph  # before another one is recorded
            if carried is not None:
                norms.append((segment.start, self._norm(carried)))
                if scale != 1:
                    carried = [None if g is None else g * scale for g in carried]
        first = None
        if alive and alive[0].start == 0 and norms and norms[-1][0] == 0 and carried is not None:
            state = self._segments.first_state()
            zeros = [np.zeros(shape_of(h), value_of(h).dtype) for h in floats(state)]
            filled = [z if g is None else g for g, z in zip(carried, zeros, strict=True)]
            first = with_floats(state, filled)
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
        graph: Graph,
        carried: Sequence[Array | None] | None,
        through: bool,
        is_new: bool,
        sums: dict[str, Array],
    ) -> list[Array | None] | None:
        """Go back over one segment: add to `sums`, and return the cotangents of its first state (None: all zero)."""
        before, after, loss = graph
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

    def _forget(self) -> None:
        """Drop the segments that no later pass can reach."""
        every, reach = self._policy.every, self._policy.reach
        if every is None:
            self._segments.forget(None)
        elif reach is not None:  # the next pass is at now + every, and goes back over `reach` uses
            self._segments.forget(self._now + every - reach)
        elif self._policy.factor(self._now, self._now + every) == 0:
            self._segments.forget(None)
        # else there is neither a limit nor a cut here: later passes may go back through the live segments


def _run(
    step: Step, context: Callable[[], AbstractContextManager[object]], inputs: object, before: object
) -> tuple[Operand | None, object]:
    with context():
        return loss_and_state(step(inputs, before), "Recurrence")


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
