"""Policies that draw: over all signs, or all directions of a basis, their mean is the gradient of full BPTT."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from credit.steps import assert_same_gradients, of_cell, recurrence

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st


class Script:
    """Signs that are dealt one by one from a list; `asked` counts them."""

    def __init__(self, signs=()):
        self.given, self.asked = signs, 0

    def deal(self, shape, dtype):
        size = int(np.prod(shape))
        dealt = self.given[self.asked : self.asked + size] if self.given else [1.0] * size
        self.asked += size
        return np.reshape(np.array(dealt, dtype), shape)


@dataclass(frozen=True)
class ScriptedUORO(tr.UORO):
    script: Script = field(default_factory=Script)

    def signs(self, shape, dtype):
        return self.script.deal(shape, dtype)


@dataclass(frozen=True)
class ScriptedFactors(tr.KroneckerFactored):
    script: Script = field(default_factory=Script)

    def signs(self, shape, dtype):
        return self.script.deal(shape, dtype)


@dataclass(frozen=True)
class ScriptedDirections(tr.ForwardGradient):
    script: Script = field(default_factory=Script)

    def normal(self, shape, dtype):
        return self.script.deal(shape, dtype)


def mean_over_all_signs(make, arguments):
    """Return the mean of the gradients over all signs that a policy can draw, and how many patterns there are."""
    count = Script()
    tr.bptt(*arguments, make(script=count))
    patterns = list(itertools.product([-1.0, 1.0], repeat=count.asked))
    totals = {}
    for pattern in patterns:
        for name, g in tr.bptt(*arguments, make(script=Script(pattern))).gradients.items():
            totals[name] = totals.get(name, 0.0) + g
    return {name: total / len(patterns) for name, total in totals.items()}, len(patterns)


def linear(N, T):
    """Two units, h = h @ A + x b, and integers everywhere."""
    A = tr.tensor(np.array([[1.0, 2.0], [-1.0, 1.0]]), requires_grad=True)
    b = tr.tensor(np.array([1.0, -2.0]), requires_grad=True)
    weights = np.array([3.0, 1.0])

    def step(xs, h):
        total = 0.0
        for t in range(xs.shape[1]):
            h = h @ A + xs[:, t] * b
            total = total + (h * weights).sum() + (h[:, 0] * h[:, 1]).sum()
        return total, h

    xs = np.random.default_rng(0).integers(-2, 3, (N, T, 1)).astype(float)
    return step, {"A": A, "b": b}, xs, np.ones((N, 2))


CASES = {
    "linear": (linear, 1, 3),
    "linear, two streams": (linear, 2, 2),
    "plain": (lambda N, T: recurrence("plain", N, T, 0), 1, 2),
    "both states in the loss": (lambda N, T: recurrence("both states in the loss", N, T, 0), 1, 2),
    "lstm": (
        lambda N, T: of_cell(st.with_noise(tr.LSTMCell(1, 1, np.random.default_rng(0), dtype=np.float64), 1), N, T, 0),
        1,
        2,
    ),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("make", [ScriptedUORO, ScriptedFactors], ids=["UORO", "Kronecker factors"])
@pytest.mark.parametrize("name", CASES)
def test_the_mean_over_all_signs_is_the_full_gradient(make, name):
    case, N, T = CASES[name]
    arguments = case(N, T)
    expected = tr.bptt(*arguments, tr.Full()).gradients
    mean, count = mean_over_all_signs(make, arguments)
    assert 16 <= count <= 2**8
    assert_same_gradients(mean, expected, 1e-12)


def test_one_draw_is_not_the_full_gradient():
    """The mean is right for a reason: draws differ from it, and from one another."""
    arguments = linear(1, 4)
    full = tr.bptt(*arguments, tr.Full()).gradients["A"]
    for make in (tr.UORO, tr.KroneckerFactored, tr.ForwardGradient):
        draws = [tr.bptt(*arguments, make(rng=seed)).gradients["A"] for seed in range(4)]
        assert all(np.abs(draw - full).max() > 0.1 for draw in draws)
        assert np.abs(draws[0] - draws[1]).max() > 0.1


def test_kronecker_factors_vary_less_than_rank_one():
    """In their mean square error over all signs."""
    arguments = linear(1, 3)
    full = tr.bptt(*arguments, tr.Full()).gradients["A"]
    errors = {}
    for make in (ScriptedUORO, ScriptedFactors):
        count = Script()
        tr.bptt(*arguments, make(script=count))
        draws = [
            tr.bptt(*arguments, make(script=Script(pattern))).gradients["A"]
            for pattern in itertools.product([-1.0, 1.0], repeat=count.asked)
        ]
        errors[make] = np.mean([np.sum((draw - full) ** 2) for draw in draws])
    assert errors[ScriptedFactors] < errors[ScriptedUORO]


def directions(arguments):
    """Yield the directions of a basis: for each, a 1 at one element of one parameter."""
    sizes = [p.size for p in arguments[1].values()]
    yield from np.eye(sum(sizes)).tolist()


@pytest.mark.parametrize("case", [linear, CASES["plain"][0], CASES["lstm"][0]], ids=["linear", "plain", "lstm"])
def test_forward_gradients_in_the_directions_of_a_basis_add_up_to_the_full_gradient(case):
    """E[v v^T] = 1 for normal v, and the sum of e e^T over a basis is 1 as well."""
    arguments = case(2, 3)
    found = dict.fromkeys(arguments[1], 0.0)
    for direction in directions(arguments):
        for name, g in tr.bptt(*arguments, ScriptedDirections(script=Script(direction))).gradients.items():
            found[name] = found[name] + g
    expected = tr.bptt(*arguments, tr.Full()).gradients
    assert_same_gradients(found, expected)
    if case is linear:
        assert all((found[name] == expected[name]).all() for name in expected)


def test_forward_gradients_over_all_signs_in_integers():
    arguments = linear(1, 3)
    mean, count = mean_over_all_signs(ScriptedDirections, arguments)
    assert count == 2**6
    expected = tr.bptt(*arguments, tr.Full()).gradients
    assert all((mean[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize("make", [tr.UORO, tr.KroneckerFactored, tr.ForwardGradient])
def test_a_seed_says_what_is_drawn_and_sequences_go_on(make):
    arguments = recurrence("plain", 2, 5, 0)
    policy, same = make(rng=3), make(rng=3)
    first, second = (tr.bptt(*arguments, policy).gradients for _ in range(2))
    assert_same_gradients(first, tr.bptt(*arguments, same).gradients, 0)
    assert not np.allclose(first["W"], second["W"])
    assert_same_gradients(second, tr.bptt(*arguments, same).gradients, 0)
    assert_same_gradients(first, tr.bptt(*arguments, make(rng=np.random.default_rng(3))).gradients, 0)


@pytest.mark.parametrize("every", [2, None])
@pytest.mark.parametrize("make", [tr.UORO, tr.KroneckerFactored, tr.ForwardGradient])
def test_updates_split_the_same_gradient(make, every):
    arguments = recurrence("plain", 2, 5, 0)
    assert_same_gradients(
        tr.bptt(*arguments, make(rng=3, every=every)).gradients, tr.bptt(*arguments, make(rng=3)).gradients
    )
