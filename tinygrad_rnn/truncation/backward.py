"""Backward passes over a recurrence that is recorded in segments, as a policy asks for them.

Each segment is a graph of its own, from leaves that hold the state before it to the state after it. A backward pass
goes over the segments from newest to oldest and passes the cotangent of each segment's first state, times the policy's
factor for that edge, to the previous segment. Every policy is therefore the same loop; only a policy that recomputes
records anything twice; a cut does not change the recorded graph; and segments that are too far back are freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import cast

import numpy as np

from ..credit.nests import (
    added,
    edge_to,
    first_state,
    floats,
    loss_and_state,
    number_of,
    one_for,
    steps_of,
    value_of,
    with_floats,
)
from ..credit.policy import Policy, inside_a_segment, policy_state, restore_policy, started
from ..credit.update import Past, Step, Update
from ..engine.tape import Array, Edge, context, slice_of_a_sequence
from ..engine.tensor import Operand, Tensor, shape_of
from ..engine.tree import map_leaves
from ..engine.walk import own, pull_back
from .segments import Graph, Recomputed, Segments


class BackwardRecurrence:
    """A recurrence under a policy that goes back; used as `Recurrence` is, which makes it.

    Args:
        step, parameters, policy, state, rng, resumable, past: as in `Recurrence`.
    """

    carry = None

    def __init__(
        self,
        step: Step,
        parameters: Mapping[str, Tensor],
        policy: Policy,
        state: object,
        rng: np.random.Generator | None = None,
        resumable: bool = False,
        past: Past | None = None,
    ) -> None:
        self._parameters, self._policy, self._given = parameters, started(policy), policy
        self.state = first_state("Recurrence", state, parameters)
        whole = self._policy.every is None and self._policy.grain is None  # then the input is not split
        run = partial(_run, step, nullcontext if whole else slice_of_a_sequence)
        self._segments = (
            Recomputed(run, rng, self._policy)
            if self._policy.recompute
            else Segments(run, rng, parameters if resumable else None)
        )
        self._begin = 0  # losses before this step are already covered by a pass
        self._now = 0
        if past is not None:
            self._now, self._begin = cast(int, past["now"]), cast(int, past["begin"])
            self._segments.restore(cast(Past, past["segments"]))
            for one, part in zip((policy, self._policy), cast("list[Past]", past["policies"]), strict=True):
                restore_policy(one, part)

    @property
    def past(self) -> Past:
        """What a recurrence that continues this one needs, besides the state."""
        policies = [policy_state(policy) for policy in (self._given, self._policy)]
        return {"now": self._now, "begin": self._begin, "segments": self._segments.past(), "policies": policies}

    @property
    def alive_steps(self) -> int:
        """Number of steps whose graph (or, with recomputation, whose first state) is currently held."""
        return self._segments.steps()

    def feed(self, inputs: object) -> Iterator[Update]:
        """Run the next steps, and yield the update of each pass that is due."""
        T = steps_of(inputs)
        done = 0
        self._segments.expect(self._segments_to_come(T))
        while done < T:
            length = min(T - done, self._until_border())
            some = map_leaves(lambda x, a=done, b=done + length: x[:, a:b], inputs)
            self.state = self._segments.add(self._now, self._now + length, some, self.state)
            self._now += length
            done += length
            if self._policy.every is not None and self._now % self._policy.every == 0:
                yield self._backward()
                self._segments.expect(self._segments_to_come(T - done))

    def finish(self) -> Update | None:
        """Run a pass for the losses that still wait for one; None if there are none."""
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
                    raise inside_a_segment(policy, edge)
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
            first = with_floats(state, filled if context().tracer is not None else own(filled))
        policy.observe(end, begin, norms)
        self._begin = end
        self._forget()
        gradients = {
            name: sums[name] if name in sums else np.zeros(p.shape, p.dtype) for name, p in self._parameters.items()
        }
        return Update(end, losses[::-1], gradients, self.state, first)

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
            return
        due = (self._now // every + 1) * every  # the end of the next pass
        if reach is not None:  # it goes back over `reach` uses
            self._segments.forget(due - reach)
        elif self._policy.factor(self._now, due) == 0:
            self._segments.forget(None)
        # else there is neither a limit nor a cut here: later passes may go back through the live segments


def _run(
    step: Step, context: Callable[[], AbstractContextManager[object]], inputs: object, before: object
) -> tuple[Operand | None, object]:
    with context():
        return loss_and_state(step(inputs, before), "Recurrence")
