"""Cells against complex step, against the formulas written out, and a cell that a user wrote."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import STEP

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, map_leaves

sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


class MinimalGated(tr.Module):
    """A user's cell in ten lines (Heck and Salem 2017, variant 3), with a nested state that counts steps."""

    def __init__(self, input_size, hidden_size, rng, dtype=np.float64):
        self.Wf = tr.tensor(rng.standard_normal((input_size + hidden_size, hidden_size)), dtype, requires_grad=True)
        self.Wn = tr.tensor(rng.standard_normal((input_size, hidden_size)), dtype, requires_grad=True)

    def initial_state(self, batch_size):
        return {"h": np.zeros((batch_size, self.Wn.shape[1]), self.Wn.dtype), "steps": 0}

    def __call__(self, x, state):
        f = tr.sigmoid(np.concatenate([x, state["h"]], axis=1) @ self.Wf)
        h = f * state["h"] + (1 - f) * np.tanh(x @ self.Wn)
        return h, {"h": h, "steps": state["steps"] + 1}


MAKERS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "gru after": lambda *a: tr.GRUCell(*a, reset="after"),
    "gru before": lambda *a: tr.GRUCell(*a, reset="before"),
    "user": MinimalGated,
    "stacked": lambda D, H, rng, dtype: tr.Stacked([tr.LSTMCell(D, H, rng, dtype), tr.GRUCell(H, H, rng, dtype)]),
}


def randomised(cell, rng):
    """Give every parameter, biases too, a random value."""
    cell.load({name: rng.standard_normal(p.shape) for name, p in cell.parameters().items()})
    return cell


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", MAKERS)
@given(N=sizes, T=sizes, D=sizes, H=sizes, seed=seeds, cut_every=st.sampled_from([None, 1, 2]), padded=st.booleans())
def test_gradients_of_unrolled_cells(name, N, T, D, H, seed, cut_every, padded):
    """Every parameter, the inputs and the first state, with cuts and with padding, by one direction each."""
    rng = np.random.default_rng(seed)
    cell = randomised(MAKERS[name](D, H, rng, np.float64), rng)
    xs = tr.tensor(rng.standard_normal((N, T, D)), requires_grad=True)
    state = map_leaves(
        lambda h: h if isinstance(h, int) else tr.tensor(rng.standard_normal(h.shape), requires_grad=True),
        cell.initial_state(N),
    )
    lengths = rng.integers(1, T + 1, N) if padded else None
    weights = rng.standard_normal((N, T, H))

    def loss():
        outputs, last = tr.unroll(cell, xs, state, cut_every, lengths)
        total = np.sum(outputs * weights)
        for part in flatten(last):
            total = total if isinstance(part, int) else total + np.sum(np.tanh(part))
        return total

    states = {f"state {i}": h for i, h in enumerate(flatten(state)) if not isinstance(h, int)}
    leaves = {**cell.parameters(), "xs": xs, **states}
    gradients = tr.grad(loss(), leaves, allow_unused=True)
    largest = max(float(np.abs(g).max()) for g in gradients.values())
    for key, leaf in leaves.items():
        v = rng.standard_normal(leaf.shape)
        real = leaf.data
        leaf._array = real + 1j * STEP * v
        tangent = loss().data.imag / STEP
        leaf._array = real
        bound = 1e-12 * max(1.0, largest) * np.abs(v).sum()
        assert abs(np.sum(gradients[key] * v) - tangent) <= bound, key


def test_rnn_by_hand():
    cell = tr.RNNCell(2, 2, np.random.default_rng(0), np.float64)
    x, h = np.ones((1, 2)), np.full((1, 2), 0.5)
    expected = np.tanh(x @ cell.Wx.data + h @ cell.Wh.data + cell.b.data)
    output, state = cell(x, h)
    np.testing.assert_array_equal(output.data, expected)
    assert state is output


def test_forget_bias_and_names_and_count():
    cell = tr.LSTMCell(3, 2, np.random.default_rng(0), forget_bias=1.5)
    assert cell.b.data.tolist() == [0, 0, 1.5, 1.5, 0, 0, 0, 0]
    assert {n: p.shape for n, p in cell.parameters().items()} == {"Wx": (3, 8), "Wh": (2, 8), "b": (8,)}
    assert cell.parameter_count() == 48
    assert "48 parameters" in repr(cell)
    assert list(tr.GRUCell(3, 2, np.random.default_rng(0)).parameters()) == ["Wx", "Wh", "b", "bh"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: c(np.ones((2, 5)), np.ones((2, 4))), tr.ShapeError, r"\(N, D\) = \(N, 3\), got \(2, 5\)"),
        (lambda c: c(np.ones((1, 2, 3)), np.ones((2, 4))), tr.ShapeError, r"got \(1, 2, 3\)"),
        (
            lambda c: c(np.ones(3), np.ones((1, 4))),
            tr.ShapeError,
            r"\(H,\) = \(4,\), got \(1, 4\); x .* x\[None\]",
        ),
        (lambda c: c(np.ones((2, 3)), np.ones((1, 4))), tr.ShapeError, r"\(N, H\) = \(2, 4\), got \(1, 4\)"),
        (
            lambda c: tr.RNNCell(0, 4, np.random.default_rng(0)),
            tr.ConfigError,
            "input_size must be an integer of 1 or more",
        ),
        (lambda c: tr.GRUCell(3, 4, np.random.default_rng(0), reset="x"), tr.ConfigError, "after"),
        (lambda c: tr.Stacked([]), tr.ConfigError, "at least one cell"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(tr.RNNCell(3, 4, np.random.default_rng(0)))


def test_weights_have_the_stated_variance():
    cell = tr.LSTMCell(400, 100, np.random.default_rng(0))
    assert np.std(cell.Wx.data) == pytest.approx(1 / 20, rel=0.02)
    assert np.std(cell.Wh.data) == pytest.approx(1 / 10, rel=0.02)
    assert cell.Wx.dtype == np.float32
