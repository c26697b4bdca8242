from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.handwritten import LSTM, TimeLSTM


def test_forward_is_the_equation_with_gates_in_the_order_i_f_o_g():
    rng = np.random.default_rng(1)
    D, H = 3, 2
    blocks = {gate: (rng.standard_normal((D, H)), rng.standard_normal((H, H))) for gate in "ifog"}
    bias = {gate: rng.standard_normal(H) for gate in "ifog"}
    x, h_prev, c_prev = rng.standard_normal((4, D)), rng.standard_normal((4, H)), rng.standard_normal((4, H))
    a = {gate: x @ Wx + h_prev @ Wh + bias[gate] for gate, (Wx, Wh) in blocks.items()}
    i, f, o = (1 / (1 + np.exp(-a[gate])) for gate in "ifo")
    c_expected = f * c_prev + i * np.tanh(a["g"])
    lstm = LSTM(
        np.hstack([blocks[gate][0] for gate in "ifog"]),
        np.hstack([blocks[gate][1] for gate in "ifog"]),
        np.hstack([bias[gate] for gate in "ifog"]),
    )
    h_next, c_next = lstm.forward(x, h_prev, c_prev)
    np.testing.assert_allclose(c_next, c_expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(h_next, o * np.tanh(c_expected), rtol=1e-13, atol=1e-15)


def test_backward_of_one_step_is_the_complex_step(complex_step, relative_error):
    rng = np.random.default_rng(2)
    N, D, H = 2, 3, 4
    shapes = [(N, D), (N, H), (N, H), (D, 4 * H), (H, 4 * H), (4 * H,)]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    dh_next, dc_next = rng.standard_normal((2, N, H))

    def loss(x, h_prev, c_prev, Wx, Wh, b):
        h_next, c_next = LSTM(Wx, Wh, b).forward(x, h_prev, c_prev)
        return (h_next * dh_next).sum() + (c_next * dc_next).sum()

    x, h_prev, c_prev, *params = arrays
    lstm = LSTM(*params)
    lstm.forward(x, h_prev, c_prev)
    actual = [*lstm.backward(dh_next, dc_next), *lstm.grads]
    for got, expected in zip(actual, complex_step(loss, *arrays), strict=True):
        assert relative_error(got, expected) <= 1e-12


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 8), (2, 6), (8,)], r"LSTM: Wh must have shape \(H=2, 4H=8\), got \(2, 6\)"),
        ([(3, 6), (2, 8), (8,)], r"LSTM: Wx must have shape \(D, 4H=8\), got \(3, 6\)"),
        ([(3, 8), (2, 8), (2,)], r"LSTM: b must have shape \(4H=8\), got \(2,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        LSTM(*[np.ones(shape) for shape in shapes])


def test_arguments_that_do_not_fit_are_refused():
    lstm = LSTM(np.ones((3, 8)), np.ones((2, 8)), np.ones(8))
    x, h = np.ones((5, 3)), np.ones((5, 2))
    with pytest.raises(ValueError, match=r"LSTM.backward: nothing to differentiate; call forward first"):
        lstm.backward(h, h)
    with pytest.raises(ValueError, match=r"LSTM.forward: x must have shape \(N, D=3\), got \(5, 2\)"):
        lstm.forward(h, h, h)
    with pytest.raises(ValueError, match=r"LSTM.forward: h_prev must have shape \(N=5, H=2\), got \(5, 3\)"):
        lstm.forward(x, x, h)
    with pytest.raises(ValueError, match=r"LSTM.forward: c_prev must have shape \(N=5, H=2\), got \(1, 2\)"):
        lstm.forward(x, h, h[:1])
    lstm.forward(x, h, h)
    with pytest.raises(ValueError, match=r"LSTM.backward: dh_next must have shape \(N=5, H=2\), got \(1, 2\)"):
        lstm.backward(h[:1], h)
    with pytest.raises(ValueError, match=r"LSTM.backward: dc_next must have shape \(N=5, H=2\), got \(1, 2\)"):
        lstm.backward(h, h[:1])


def test_set_state_without_c_starts_the_memory_cell_from_zeros():
    rng = np.random.default_rng(3)
    layer = TimeLSTM(rng.standard_normal((3, 8)), rng.standard_normal((2, 8)), rng.standard_normal(8), stateful=True)
    xs, h = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2))
    layer.set_state(h, np.zeros((4, 2)))
    expected = layer.forward(xs)
    layer.set_state(h)
    np.testing.assert_array_equal(layer.forward(xs), expected)
    with pytest.raises(ValueError, match=r"TimeLSTM.set_state: c must have shape \(N=4, H=2\), got \(1, 2\)"):
        layer.set_state(h, np.zeros((1, 2)))
