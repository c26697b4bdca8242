"""Time: outputs, states, cuts, padding, two directions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr


def make(kind="lstm", D=3, H=4, seed=0):
    return {"rnn": tr.RNNCell, "lstm": tr.LSTMCell, "gru": tr.GRUCell}[kind](
        D, H, np.random.default_rng(seed), np.float64
    )


def test_unrolling_is_the_loop_over_steps():
    cell, xs = make(), np.random.default_rng(1).standard_normal((2, 5, 3))
    outputs, (h, c) = tr.unroll(cell, xs)
    state = cell.initial_state(2)
    for t in range(5):
        output, state = cell(xs[:, t], state)
        np.testing.assert_array_equal(outputs.data[:, t], output.data)
    np.testing.assert_array_equal(h.data, state[0].data)
    np.testing.assert_array_equal(c.data, state[1].data)


@given(seed=st.integers(0, 2**32 - 1), cut_every=st.integers(1, 9), kind=st.sampled_from(["rnn", "lstm", "gru"]))
def test_cuts_leave_the_forward_bitwise_alone_and_split_the_gradient(seed, cut_every, kind):
    rng = np.random.default_rng(seed)
    cell, xs = make(kind), rng.standard_normal((2, 7, 3))
    full, _ = tr.unroll(cell, xs)
    outputs, _ = tr.unroll(cell, xs, cut_every=cut_every)
    assert outputs.data.tobytes() == full.data.tobytes()
    # Each chunk on its own, its first state a constant: the same gradient, added up.
    state, parts = cell.initial_state(2), []
    for start in range(0, 7, cut_every):
        chunk, state = tr.unroll(cell, xs[:, start : start + cut_every], tr.cut(state))
        parts.append(tr.grad(np.sum(chunk * chunk), cell.parameters()))
    whole = tr.grad(np.sum(outputs * outputs), cell.parameters())
    for name, gradient in whole.items():
        np.testing.assert_allclose(gradient, sum(part[name] for part in parts), rtol=1e-12, atol=1e-13)


def test_a_loss_reaches_back_exactly_cut_every_uses():
    cell, T = make("rnn"), 7
    xs = tr.tensor(np.random.default_rng(0).standard_normal((1, T, 3)), requires_grad=True)
    outputs, _ = tr.unroll(cell, xs, cut_every=3)
    for t in range(T):
        reached = np.abs(tr.grad(outputs[:, t].sum(), xs)).sum(axis=(0, 2)) > 0
        assert reached.tolist() == [t // 3 * 3 <= s <= t for s in range(T)]


@given(
    seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["rnn", "lstm", "gru"]), junk=st.sampled_from([0, 1e9, np.nan])
)
def test_padding_is_invisible(seed, kind, junk):
    """Each sequence of a padded batch gives what it gives alone; its padding may hold anything."""
    rng = np.random.default_rng(seed)
    cell, lengths = make(kind), rng.integers(1, 6, 3)
    data = rng.standard_normal((3, 5, 3))
    data[np.arange(5) >= lengths[:, None]] = junk
    xs = tr.tensor(data, requires_grad=True)
    outputs, state = tr.unroll(cell, xs, lengths=lengths)
    last = state[0] if kind == "lstm" else state
    parameters = cell.parameters()
    gradients = tr.grad(np.sum(outputs * outputs) + np.sum(last), {**parameters, "xs": xs})
    expected = {name: np.zeros(p.shape) for name, p in parameters.items()}
    for n, length in enumerate(lengths):
        alone = tr.tensor(data[n : n + 1, :length], requires_grad=True)
        outputs_n, state_n = tr.unroll(cell, alone)
        last_n = state_n[0] if kind == "lstm" else state_n
        np.testing.assert_allclose(outputs.data[n, :length], outputs_n.data[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(last.data[n], last_n.data[0], rtol=1e-13, atol=1e-14)
        assert not outputs.data[n, length:].any()
        part = tr.grad(np.sum(outputs_n * outputs_n) + np.sum(last_n), {**parameters, "xs": alone})
        np.testing.assert_allclose(gradients["xs"][n, :length], part["xs"][0], rtol=1e-12, atol=1e-13)
        assert not gradients["xs"][n, length:].any()
        for name in parameters:
            expected[name] += part[name]
    for name in parameters:
        np.testing.assert_allclose(gradients[name], expected[name], rtol=1e-11, atol=1e-12)


def test_two_directions_and_their_lengths():
    rng = np.random.default_rng(0)
    ahead, back, lengths = make(seed=1), make("gru", seed=2), np.array([5, 2, 3])
    xs = rng.standard_normal((3, 5, 3))
    outputs, (ahead_state, back_state) = tr.bidirectional(ahead, back, xs, lengths=lengths)
    assert outputs.shape == (3, 5, 8)
    for n, length in enumerate(lengths):
        alone = xs[n : n + 1, :length]
        left, (_, c) = tr.unroll(ahead, alone)
        right, last = tr.unroll(back, alone[:, ::-1])
        np.testing.assert_allclose(outputs.data[n, :length, :4], left.data[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(outputs.data[n, :length, 4:], right.data[0, ::-1], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(ahead_state[1].data[n], c.data[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(back_state.data[n], last.data[0], rtol=1e-13, atol=1e-14)
    assert set(tr.grad(outputs.sum(), {**back.parameters()})) == {"Wx", "Wh", "b", "bh"}


def test_steps_are_marked_and_a_function_is_a_cell():
    w = tr.tensor(0.5, requires_grad=True)

    def cell(x, h):
        h = np.tanh(x + h * w)
        return h, h

    seen = []

    def spy(x, h):
        output, h = cell(x, h)
        seen.append(h.node.step)
        return output, h

    outputs, _ = tr.unroll(spy, np.ones((2, 3, 1)), np.zeros((2, 1)))
    assert outputs.shape == (2, 3, 1)
    assert seen == [0, 1, 2]
    assert tr.grad(outputs.sum(), w) > 0


def test_gradient_cost_grows_linearly_in_T():
    """Nodes, not seconds: one unstack and one stack serve all steps."""
    from tinygrad_rnn.engine.walk import ancestors

    counts = []
    for T in (10, 20, 40):
        outputs, _ = tr.unroll(make(), tr.tensor(np.ones((1, T, 3)), requires_grad=True))
        counts.append(len(ancestors([outputs.node])))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: tr.unroll(c, np.ones(3)), tr.ShapeError, r"\(N, T, D\) with T >= 1, got \(3,\)"),
        (lambda c: tr.unroll(c, np.ones((2, 0, 3))), tr.ShapeError, r"got \(2, 0, 3\)"),
        (lambda c: tr.unroll(c, np.ones((2, 4, 3)), lengths=[1]), tr.ShapeError, r"\(N,\) = \(2,\), got \(1,\)"),
        (lambda c: tr.unroll(c, np.ones((2, 4, 3)), lengths=[0, 5]), tr.ShapeError, r"\[1, 4\], got 0 to 5"),
        (lambda c: tr.unroll(c, np.ones((2, 4, 3)), lengths=[1.5, 2]), tr.DTypeError, "integer lengths"),
        (lambda c: tr.unroll(lambda x, h: (h, h), np.ones((2, 4, 3))), tr.ConfigError, "has no initial_state"),
        (lambda c: tr.unroll(c, np.ones((2, 4, 3)), np.ones((3, 4))), tr.ShapeError, "initial_state"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(make("rnn"))
