from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.handwritten import GRU


def logistic(z):
    return 1 / (1 + np.exp(-z))


def test_forward_with_reset_after_is_pytorchs_equation_with_two_biases():
    rng = np.random.default_rng(1)
    D, H = 3, 2
    x, h = rng.standard_normal((4, D)), rng.standard_normal((4, H))
    # PyTorch's shapes and names: torch.nn.GRU has weights (3H, D) and (3H, H) and two biases of 3H.
    weight_ih, weight_hh = rng.standard_normal((3 * H, D)), rng.standard_normal((3 * H, H))
    bias_ih, bias_hh = rng.standard_normal((2, 3 * H))
    i_r, i_z, i_n = np.split(x @ weight_ih.T + bias_ih, 3, axis=1)
    h_r, h_z, h_n = np.split(h @ weight_hh.T + bias_hh, 3, axis=1)
    r, z = logistic(i_r + h_r), logistic(i_z + h_z)
    expected = (1 - z) * np.tanh(i_n + r * h_n) + z * h

    b = bias_ih + np.concatenate([bias_hh[: 2 * H], np.zeros(H)])
    gru = GRU(weight_ih.T, weight_hh.T, b, bias_hh[2 * H :])
    np.testing.assert_allclose(gru.forward(x, h), expected, rtol=1e-13, atol=1e-15)


def test_forward_with_reset_before_is_the_equation_of_the_paper():
    rng = np.random.default_rng(2)
    D, H = 3, 2
    x, h = rng.standard_normal((4, D)), rng.standard_normal((4, H))
    Wx, Wh, b = rng.standard_normal((3, D, H)), rng.standard_normal((3, H, H)), rng.standard_normal((3, H))
    r = logistic(x @ Wx[0] + h @ Wh[0] + b[0])
    z = logistic(x @ Wx[1] + h @ Wh[1] + b[1])
    n = np.tanh(x @ Wx[2] + (r * h) @ Wh[2] + b[2])
    gru = GRU(np.hstack(Wx), np.hstack(Wh), np.hstack(b), reset="before")
    np.testing.assert_allclose(gru.forward(x, h), (1 - z) * n + z * h, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_backward_of_one_step_is_the_complex_step(reset, complex_step, relative_error):
    rng = np.random.default_rng(3)
    N, D, H = 2, 3, 4
    shapes = [(N, D), (N, H), (D, 3 * H), (H, 3 * H), (3 * H,)] + [(H,)] * (reset == "after")
    arrays = [rng.standard_normal(shape) for shape in shapes]
    dh_next = rng.standard_normal((N, H))

    def loss(x, h_prev, *params):
        return (GRU(*params, reset=reset).forward(x, h_prev) * dh_next).sum()

    x, h_prev, *params = arrays
    gru = GRU(*params, reset=reset)
    gru.forward(x, h_prev)
    actual = [*gru.backward(dh_next), *gru.grads]
    for got, expected in zip(actual, complex_step(loss, *arrays), strict=True):
        assert relative_error(got, expected) <= 1e-12


@pytest.mark.parametrize(
    ("shapes", "reset", "message"),
    [
        ([(3, 6), (2, 8), (6,), (2,)], "after", r"GRU: Wh must have shape \(H=2, 3H=6\), got \(2, 8\)"),
        ([(3, 8), (2, 6), (6,), (2,)], "after", r"GRU: Wx must have shape \(D, 3H=6\), got \(3, 8\)"),
        ([(3, 6), (2, 6), (2,), (2,)], "after", r"GRU: b must have shape \(3H=6\), got \(2,\)"),
        ([(3, 6), (2, 6), (6,), (6,)], "after", r"GRU: bh must have shape \(H=2\), got \(6,\)"),
        ([(3, 6), (2, 6), (6,)], "after", "got reset='after' without bh, so pass bh"),
        ([(3, 6), (2, 6), (6,), (2,)], "before", "got reset='before' with bh, so leave bh out"),
        ([(3, 6), (2, 6), (6,)], "never", "GRU: reset must be 'after' or 'before', got 'never'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(shapes, reset, message):
    with pytest.raises(ValueError, match=message):
        GRU(*[np.ones(shape) for shape in shapes], reset=reset)


def test_arguments_that_do_not_fit_are_refused():
    gru = GRU(np.ones((3, 6)), np.ones((2, 6)), np.ones(6), np.ones(2))
    x, h = np.ones((5, 3)), np.ones((5, 2))
    with pytest.raises(ValueError, match=r"GRU.backward: nothing to differentiate; call forward first"):
        gru.backward(h)
    with pytest.raises(ValueError, match=r"GRU.forward: x must have shape \(N, D=3\), got \(5, 2\)"):
        gru.forward(h, h)
    with pytest.raises(ValueError, match=r"GRU.forward: h_prev must have shape \(N=5, H=2\), got \(5, 3\)"):
        gru.forward(x, x)
    gru.forward(x, h)
    with pytest.raises(ValueError, match=r"GRU.backward: dh_next must have shape \(N=5, H=2\), got \(5, 3\)"):
        gru.backward(x)
