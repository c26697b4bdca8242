"""The graph cut: identity forward, scaled backward, closed edges not walked, the past freed."""

import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import STEP, relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.engine.walk import ancestors

# h_t = w h_{t-1} + x_t, l_t = e_t h_t: integers, so everything is exact in float64 and compared with ==.
W, H0, X, E = 2.0, 1.0, [1.0, -1.0, 2.0, 1.0, -2.0, 3.0], [1.0, 2.0, -1.0, 1.0, 3.0, 1.0]
STATES = [3.0, 5.0, 12.0, 25.0, 48.0, 99.0]


def linear_cell(w):
    def cell(x, h):
        h = h * w + x
        return h, h

    return cell


def as_sequence(values):
    return np.array(values).reshape(1, -1, 1)


def loss_of(outputs):
    return np.sum(outputs * as_sequence(E))


@pytest.mark.parametrize(("cut_every", "expected"), [(None, 631), (1, 137), (2, 201), (3, 301), (6, 631), (9, 631)])
def test_integer_oracle_for_chunks(cut_every, expected):
    w = tr.tensor(W, requires_grad=True)
    outputs, _ = tr.unroll(linear_cell(w), as_sequence(X), np.full((1, 1), H0), cut_every=cut_every)
    assert outputs.data.ravel().tolist() == STATES
    assert tr.grad(loss_of(outputs), w) == expected


def test_integer_oracle_for_the_first_state_and_for_decay():
    w, h0 = tr.tensor(W, requires_grad=True), tr.tensor([[H0]], requires_grad=True)
    outputs, _ = tr.unroll(linear_cell(w), as_sequence(X), h0)
    assert tr.grad(loss_of(outputs), h0) == 178

    def decaying(x, h):
        h = tr.cut(h, scale=0.5) * w + x
        return h, h

    outputs, _ = tr.unroll(decaying, as_sequence(X), np.full((1, 1), H0))
    assert outputs.data.ravel().tolist() == STATES
    assert tr.grad(loss_of(outputs), w) == 253


def test_windows_one_after_another_equal_cuts_inside_one_call():
    w = tr.tensor(W, requires_grad=True)
    state, total = np.full((1, 1), H0), 0.0
    for start in range(0, 6, 3):
        window = slice(start, start + 3)
        outputs, state = tr.unroll(linear_cell(w), as_sequence(X[window]), tr.cut(state))
        total += tr.grad(np.sum(outputs * as_sequence(E[window])), w)
    assert total == 301


def test_chunk_3_plus_what_arrives_at_the_cut_is_the_full_gradient():
    """301 + 22 * 15 = 631: the cotangent at the cut, times d state / d w, is what the cut leaves out."""
    w = tr.tensor(W, requires_grad=True)
    first, state = tr.unroll(linear_cell(w), as_sequence(X[:3]), np.full((1, 1), H0))
    cut_state = tr.cut(state)
    second, _ = tr.unroll(linear_cell(w), as_sequence(X[3:]), cut_state)
    loss = np.sum(first * as_sequence(E[:3])) + np.sum(second * as_sequence(E[3:]))
    assert tr.grad(loss, w) == 301
    assert tr.grad(loss, cut_state) == 22
    assert tr.grad(state, w) == 15


def test_a_cut_under_one_loss_does_not_change_another():
    w = tr.tensor(3.0, requires_grad=True)
    h = w * w
    assert tr.grad(tr.cut(h) * w, w) == 9
    assert tr.grad(h * w, w) == 27


def test_every_component_of_a_state_is_cut_and_other_values_pass():
    h = tr.tensor([1.0], requires_grad=True)
    state = (h * 2, {"c": h * 3, "count": 4, "ids": np.array([1])}, None)
    a, rest, nothing = tr.cut(state)
    assert nothing is None
    assert rest["count"] == 4
    assert rest["ids"] is state[1]["ids"]
    with pytest.raises(tr.GradientError, match="a cut stands between"):
        tr.grad((a + rest["c"]).sum(), h)


@given(st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_forward_is_bitwise_the_same_and_backward_is_scaled(scale, seed):
    array = np.random.default_rng(seed).standard_normal((2, 3))
    h = tr.tensor(array, requires_grad=True)
    y = tr.cut(h, scale=scale)
    assert y.data.tobytes() == array.tobytes()
    gradient = tr.grad(y, h, cotangent=array, allow_unused=True)
    np.testing.assert_array_equal(gradient, array * scale)


def test_zero_times_infinity_does_not_become_nan():
    h = tr.tensor([1.0], requires_grad=True)
    y = tr.cut(h * 1.0) + h
    assert tr.grad(y, h, cotangent=[np.inf])[0] == np.inf


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 0.5, 1.0, -2.0]), T=st.integers(1, 6))
def test_complex_step_sees_the_truncated_gradient(seed, scale, T):
    """The cut scales the tangent too, so a truncated gradient can be verified exactly."""
    rng = np.random.default_rng(seed)
    Wh, x, v = rng.standard_normal((3, 3)), rng.standard_normal((1, T, 3)), rng.standard_normal((3, 3))

    def loss(weights):
        def cell(x, h):
            h = np.tanh(tr.cut(h, scale=scale) @ weights + x)
            return h, h

        outputs, _ = tr.unroll(cell, x, np.ones((1, 3)))
        return np.sum(outputs * outputs)

    leaf = tr.tensor(Wh, requires_grad=True)
    tangent = loss(Wh + 1j * STEP * v).imag / STEP
    assert relative_error(np.sum(tr.grad(loss(leaf), leaf) * v), tangent) < 1e-14


def test_a_closed_cut_frees_its_past(no_collector):
    w = tr.tensor([2.0], requires_grad=True)
    h = w
    for _ in range(10):
        h = np.tanh(h * w)
    past = [weakref.ref(node) for node in ancestors([h.node]) if node is not w.node]
    cut_h = tr.cut(h)
    assert cut_h.node.past() is h.node  # known for drawing while somebody else keeps it
    del h
    assert not any(node() for node in past)
    assert cut_h.node.past() is None
    assert cut_h.requires_grad


def test_an_open_cut_keeps_its_past(no_collector):
    w = tr.tensor([2.0], requires_grad=True)
    h = w * w
    past = weakref.ref(h.node)
    h = tr.cut(h, scale=0.5)
    assert past() is not None
    assert tr.grad(h, w) == 2


def peak_bytes_of_windows(T, window=20):
    cell = tr.LSTMCell(8, 32, np.random.default_rng(0))
    parameters = cell.parameters()
    rng = np.random.default_rng(1)
    state = cell.initial_state(16)
    tracemalloc.start()
    try:
        for _ in range(T // window):
            outputs, state = tr.unroll(cell, rng.standard_normal((16, window, 8), np.float32), tr.cut(state))
            tr.grad(np.sum(outputs * outputs), parameters)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_window_stays_flat_as_the_sequence_grows(no_collector):
    peaks = [peak_bytes_of_windows(T) for T in (50, 400)]
    assert max(peaks) < 1.5 * min(peaks), peaks  # 8 times the steps; the allocator itself varies by a third


def test_inside_no_grad_and_on_constants_nothing_is_recorded():
    h = tr.tensor([1.0], requires_grad=True)
    with tr.no_grad():
        assert not tr.cut(h * 2).requires_grad
    assert not tr.cut(tr.tensor([1.0])).requires_grad
    assert isinstance(tr.cut(np.ones(2)), np.ndarray)
