"""Record, cut, take losses, differentiate and update in any order: integer-valued, so the invariant is ==.

A shadow keeps, for each state, its value and its derivative with respect to every single use of w, by hand. What the
engine says about any loss, or any sum of losses in any order, must be the same numbers.
"""

from dataclasses import dataclass

import numpy as np
from drawn import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

import tinygrad_rnn as tr

small = st.integers(-2, 2)


@dataclass
class Pair:
    """A value of the engine, and what the shadow knows of it."""

    tensor: tr.Tensor
    value: int
    by_w: int  # derivative with respect to w, over all uses that the cuts let through
    by_h0: int
    key: int = 0


class AnyOrder(RuleBasedStateMachine):
    states = Bundle("states")
    losses = Bundle("losses")

    @initialize(target=states, h0=small)
    def start(self, h0):
        self.w = tr.tensor(2.0, requires_grad=True)
        self.h0 = tr.tensor(float(h0), requires_grad=True)
        self.value = 2
        self.accumulated = 0
        self.checked = 0
        return Pair(self.h0, h0, 0, 1)

    @rule(target=states, state=states, x=small)
    def record(self, state, x):
        if abs(state.value) > 2**40 or abs(state.by_w) > 2**40 or abs(state.by_h0) > 2**40:
            return state
        h = state.tensor * self.w + x
        return Pair(h, state.value * self.value + x, state.by_w * self.value + state.value, state.by_h0 * self.value)

    @rule(target=states, a=states, b=states)
    def share(self, a, b):
        """Two paths meet: a state that both pasts lead to."""
        if abs(a.value) + abs(b.value) + abs(a.by_w) + abs(b.by_w) > 2**40:
            return a
        return Pair(a.tensor + b.tensor, a.value + b.value, a.by_w + b.by_w, a.by_h0 + b.by_h0)

    @rule(target=states, state=states, scale=st.sampled_from([0, 1, 2, -1]))
    def cut(self, state, scale):
        return Pair(tr.cut(state.tensor, scale), state.value, state.by_w * scale, state.by_h0 * scale)

    @rule(target=losses, state=states, e=small)
    def loss(self, state, e):
        return Pair(state.tensor * e, state.value * e, state.by_w * e, state.by_h0 * e)

    @rule(new=st.integers(-2, 3))
    def update(self, new):
        self.w.data = float(new)
        self.value = new

    @rule(chosen=st.lists(losses, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
    def differentiate(self, chosen, order):
        """Any losses, the same one twice too, in any order of the seeds."""
        order.shuffle(chosen)
        ys = [loss.tensor for loss in chosen]
        by_w, by_h0 = tr.grad(ys, [self.w, self.h0], allow_unused=True)
        assert [y.item() for y in ys] == [loss.value for loss in chosen]
        assert by_w == sum(loss.by_w for loss in chosen)
        assert by_h0 == sum(loss.by_h0 for loss in chosen)
        self.checked += 1

    @precondition(lambda self: self.checked)
    @rule(loss=losses)
    def backward_kept(self, loss):
        loss.tensor.backward(retain_graph=True)
        self.accumulated += loss.by_w

    @rule(loss=consumes(losses), factor=small)
    def second_order(self, loss, factor):
        """The gradient of (gradient * factor) in a loss that is linear in h0: d/dh0 of d/dh0 is 0."""
        by_h0 = tr.grad(loss.tensor, self.h0, create_graph=True, allow_unused=True)
        assert by_h0.item() == loss.by_h0
        again = tr.grad(by_h0 * factor + self.h0 * 0.0, self.h0)
        assert again == 0

    @invariant()
    def accumulated_gradient(self):
        if hasattr(self, "w"):
            assert (0 if self.w.grad is None else self.w.grad) == self.accumulated


AnyOrder.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


class AnyWindows(RuleBasedStateMachine):
    """The driver, fed in any pieces with updates of w in between: gradients of each pass against the masks, by hand."""

    @initialize(policy=st.sampled_from(["chunked", "windowed", "sliding", "decay"]), n=st.integers(1, 4))
    def start(self, policy, n):
        self.w = tr.tensor(2.0, requires_grad=True)
        self.policy = {
            "chunked": tr.Chunked(n),
            "windowed": tr.Windowed(2 * n, every=n),
            "sliding": tr.Windowed(n + 1),
            "decay": tr.Decay(2.0, every=n),
        }[policy]
        self.run = tr.Recurrence(self.step, {"w": self.w}, self.policy, np.ones(1))
        self.value, self.h, self.begin = 2, 1, 0
        self.uses = []  # (state before the use, value of w at the use, weight of the loss behind it)

    def step(self, inputs, h):
        total = 0.0
        for t in range(inputs.shape[1]):
            h = h * self.w + inputs[:, t, 0]
            total = total + (h * inputs[:, t, 1]).sum()
        return total, h

    def expected(self, end):
        """Sum of mask * credit over the losses of this pass; each use with the w it was recorded with."""
        total, M = 0.0, self.policy.mask(-(-end // self.policy.every) * self.policy.every)
        for tau in range(self.begin, end):
            credit = self.uses[tau][2]
            for t in reversed(range(tau + 1)):
                total += M[tau, t] * credit * self.uses[t][0]
                credit *= self.uses[t][1]
        return total

    @rule(steps=st.lists(st.tuples(st.integers(-1, 1), small), min_size=1, max_size=5), new=st.integers(-1, 2))
    def feed(self, steps, new):
        if len(self.uses) > 25:
            return
        for x, e in steps:  # one step at a time: w changes behind every pass
            self.uses.append((self.h, self.value, e))
            self.h = self.h * self.value + x
            for update in self.run.feed(np.array([[[x, e]]], dtype=float)):
                assert update.end == len(self.uses)
                assert update.gradients["w"] == self.expected(update.end)
                assert update.state == self.h
                self.begin = update.end
                self.w.data, self.value = float(new), new


AnyWindows.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=12, deadline=None)
TestAnyWindows = AnyWindows.TestCase
