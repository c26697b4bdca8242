"""Correct code passes: twenty thousand leaves, none of them reported."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings, target
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.testing import check_grads


@pytest.mark.nightly
def test_no_false_alarm_in_20_000_leaf_checks():
    checked, largest = 0, 0.0

    @seed(0)
    @settings(max_examples=1000, database=None, suppress_health_check=list(HealthCheck))
    @given(
        cell=st.cells(),
        xs=st.sequences(features=2),
        model=st.models(),
        batch=st.sequences(),
        policy=st.truncations(),
        loud=hst.sampled_from([1.0, 10.0, 100.0]),  # saturates: the rule's own 1 - y * y cancels there
    )
    def check(cell, xs, model, batch, policy, loud):
        nonlocal checked, largest
        reports = [
            check_grads(cell, loud * xs),
            check_grads(model, batch),
            check_grads(model, batch, truncation=policy),
        ]
        leaves = [leaf for report in reports for leaf in report.leaves]
        worst = max(leaf.error / leaf.bound for leaf in leaves if leaf.bound)
        target(math.log10(max(worst, 1e-20)), label="error in units of what is allowed")
        checked, largest = checked + len(leaves), max(largest, worst)

    check()
    print(f"{checked:,} leaves, the largest error {largest:.2g} of what is allowed")
    assert checked >= 20_000


class DelayLine(tr.Module):
    """A cell that passes parts of its state on as they are, from h to b to a, and its own parameter as well."""

    def __init__(self, rng):
        self.Wx, self.Wh = tr.parameter(rng.standard_normal((2, 3))), tr.parameter(rng.standard_normal((3, 3)))

    def initial_state(self, batch_size):
        return [np.zeros((batch_size, 3)) for _ in range(3)] + [np.zeros((3, 3))]

    def __call__(self, x, state):
        h, a, b, late = state
        new = np.tanh(x @ self.Wx + h @ self.Wh + 0.5 * a @ late)
        return new, [new, b, h, self.Wh]


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3", "windowed:4/2", "decay:0.9", "randomized:0.3"])
def test_a_state_that_is_passed_on_as_it_is(policy):
    rng = np.random.default_rng(0)
    check_grads(DelayLine(rng), rng.standard_normal((2, 6, 2)), truncation=policy)


class Maximum(tr.Module):
    """A running maximum, which starts from -inf."""

    def __init__(self):
        self.W = tr.parameter(np.random.default_rng(0).standard_normal((2, 3)))

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 3)), np.full((batch_size, 3), -np.inf)

    def __call__(self, x, state):
        h, most = state
        h = np.tanh(x @ self.W + 0.5 * h)
        most = np.maximum(most, h)
        return most, (h, most)


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3", "decay:0.5", "rtrl"])
def test_a_state_that_starts_from_infinity(policy):
    report = check_grads(Maximum(), np.random.default_rng(1).standard_normal((2, 4, 2)), truncation=policy)
    assert report.ok
    assert "not checked: first state.1, which has values that are not finite" in report.notes
    assert {leaf.name for leaf in report.leaves} == {"W"} | ({"first state.0"} if policy != "rtrl" else set())


class Shift(tr.Module):
    """A cell whose gradients of several states are views of one array."""

    def __init__(self):
        self.W = tr.parameter(np.random.default_rng(0).standard_normal((2, 3)))

    def initial_state(self, batch_size):
        return [np.zeros((batch_size, 3)) for _ in range(3)]

    def __call__(self, x, queue):
        h = np.tanh(x @ self.W + np.stack(queue, axis=1).mean(axis=1))
        return h, [h, *queue[:-1]]


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3"])
def test_a_state_that_is_stacked(policy):
    assert check_grads(Shift(), np.random.default_rng(1).standard_normal((2, 4, 2)), truncation=policy).ok


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3", "decay:0.5", "rtrl"])
def test_a_loss_of_the_state_before_alone(policy):
    """A prediction is part of the state, and is compared with the next input."""
    rng, W = np.random.default_rng(0), tr.tensor(np.eye(3) / 2, requires_grad=True)

    def step(xs, state):
        total, (h, prediction) = 0.0, state
        for t in range(xs.shape[1]):
            total = total + np.sum((xs[:, t] - prediction) ** 2)
            h = np.tanh(xs[:, t] + h @ W)
            prediction = h * 0.9
        return total, (h, prediction)

    state = (np.zeros((2, 3)), np.zeros((2, 3)))
    assert check_grads(step, rng.standard_normal((2, 5, 3)), state, truncation=policy, parameters={"W": W}).ok
