"""The credit profile: its parts add up to the gradient of every window, and the trend says what it is made of."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.truncation.profile import credit_profile, fit_trend


class Counting(tr.Module):
    """A cell of the user's with a nested state in which a counter travels; on every third step h is passed on."""

    def __init__(self, input_size, hidden_size, rng, dtype):
        self.W = tr.tensor(rng.standard_normal((input_size, hidden_size)), dtype, requires_grad=True)
        self.a = tr.tensor(rng.standard_normal(hidden_size), dtype, requires_grad=True)

    def initial_state(self, batch_size):
        return {"h": np.zeros((batch_size, len(self.a))), "steps": 0}

    def __call__(self, x, state):
        h = state["h"] if state["steps"] % 3 == 2 else np.tanh(x @ self.W + self.a * state["h"])
        return h + x @ self.W, {"h": h, "steps": state["steps"] + 1}


CELLS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "gru": tr.GRUCell,
    "user": Counting,
    "two layers": lambda D, H, rng, dtype: tr.Stacked([tr.LSTMCell(D, H, rng, dtype), tr.RNNCell(H, H, rng, dtype)]),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", CELLS)
@settings(max_examples=10)
@given(N=st.integers(1, 3), T=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_parts_add_up_to_the_gradient_of_every_window(name, N, T, seed):
    rng = np.random.default_rng(seed)
    cell = CELLS[name](2, 3, rng, np.float64)
    xs, es, has_loss = rng.standard_normal((N, T, 2)), rng.standard_normal((N, T, 3)), rng.random((1, T)) < 0.7
    has_loss = np.repeat(has_loss, N, axis=0)

    def step(inputs, state):
        xs, es, has_loss = inputs
        total = None
        for t in range(xs.shape[1]):
            output, state = cell(xs[:, t], state)
            if has_loss[0, t]:
                loss = np.sum(output * es[:, t])
                total = loss if total is None else total + loss
        return total, state

    inputs, state = (xs, es, has_loss), cell.initial_state(N)
    parts = list(credit_profile(step, cell.parameters(), inputs, state))
    assert len(parts) == T
    for h in range(1, T + 1):
        expected = tr.bptt(step, cell.parameters(), inputs, state, tr.Windowed(h)).gradients
        for key in expected:
            assert relative_error(sum(part[key] for part in parts[:h]), expected[key]) < 1e-12
    full = tr.bptt(step, cell.parameters(), inputs, state, tr.Full()).gradients
    for key in full:
        assert relative_error(sum(part[key] for part in parts), full[key]) < 1e-12


def test_the_integer_oracle():
    """The diagonals of its table of credits, exactly."""
    w = tr.tensor(2.0, requires_grad=True)

    def step(inputs, h):
        xs, es = inputs
        h = h * w + xs[:, 0]
        return (h * es[:, 0]).sum(), h

    inputs = np.array([[1.0, -1, 2, 1, -2, 3]]), np.array([[1.0, 2, -1, 1, 3, 1]])
    parts = credit_profile(step, {"w": w}, inputs, np.ones(1))
    assert [part["w"].item() for part in parts] == [137, 130, 116, 120, 96, 32]


def test_parts_are_arrays_of_their_own():
    a, b = (tr.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    step = lambda xs, h: (np.sum((a + b) * xs[0]), h)  # noqa: E731 (a and b get the very same cotangent)
    part = next(credit_profile(step, {"a": a, "b": b}, np.ones((1, 1, 2)), None))
    part["a"] += 1000
    assert part["b"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("norms", "kind", "words"),
    [
        (0.5 ** np.arange(20), "vanishing", "halves every 1 steps (factor 0.5 per step, fitted from k = 10 to 19)"),
        (1.2 ** np.arange(21), "exploding", "doubles every 3.8 steps (factor 1.2 per step, fitted from k = 10 to 20)"),
        (0.99 ** np.arange(20), "lasting", "changes little with the distance (factor 0.99 per step"),
        (1.01 ** np.arange(20), "lasting", "(factor 1.01 per step"),
        (np.ones(6), "lasting", "(factor 1 per step, fitted from k = 3 to 5)"),
        ([9.0, 1.0, 7.0, *0.1 ** np.arange(3)], "vanishing", "(factor 0.1 per step, fitted from k = 3 to 5)"),
        ([*0.1 ** np.arange(6), 0.0, 1.0], "vanishing", "(factor 0.1 per step, fitted from k = 3 to 5)"),
        ([*2.0 ** np.arange(6), np.inf, np.nan], "exploding", "doubles every 1 steps"),
    ],
)
def test_trend(norms, kind, words):
    trend = fit_trend(list(norms))
    assert trend.kind == kind
    assert trend.sentence.startswith(kind + ": the credit ")
    assert words in trend.sentence


@given(rate=st.floats(0.1, 10), level=st.floats(1e-6, 1e6), length=st.integers(6, 40))
def test_trend_finds_what_a_geometric_profile_was_made_of(rate, level, length):
    trend = fit_trend(list(level * rate ** np.arange(length)))
    assert math.isclose(trend.rate, rate, rel_tol=1e-9)
    assert math.isclose(trend.level, level, rel_tol=1e-6)
    assert (trend.first, trend.last) == (length // 2, length - 1)


@pytest.mark.parametrize("norms", [[], [1.0], [1.0] * 4, [0.0] * 9, [1.0, 1.0, 0.0, 1.0, 1.0, 1.0], [np.nan] * 9])
def test_too_few_norms_have_no_trend(norms):
    assert fit_trend(norms) is None


def test_a_loss_of_several_elements_is_refused():
    w = tr.tensor(2.0, requires_grad=True)
    with pytest.raises(tr.GradientError, match=r"one element or None; got shape \(2,\)"):
        next(credit_profile(lambda xs, h: (h * w, h * w), {"w": w}, np.ones((2, 3)), np.ones(2)))
