from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.handwritten import RNN


def test_forward_is_the_equation():
    rnn = RNN(np.array([[0.5, -1.0]]), np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([0.1, 0.2]))
    h_next = rnn.forward(np.array([[2.0]]), np.array([[0.3, 0.4]]))
    expected = np.tanh([[2 * 0.5 + 0.3 * 1 + 0.4 * 2 + 0.1, 2 * -1 + 0.4 * 3 + 0.2]])
    np.testing.assert_allclose(h_next, expected, rtol=1e-15)


def test_backward_of_one_step_is_the_complex_step(complex_step, relative_error):
    rng = np.random.default_rng(1)
    N, D, H = 2, 3, 4
    arrays = [rng.standard_normal(shape) for shape in [(N, D), (N, H), (D, H), (H, H), (H,)]]
    dh_next = rng.standard_normal((N, H))

    def loss(x, h_prev, Wx, Wh, b):
        return (RNN(Wx, Wh, b).forward(x, h_prev) * dh_next).sum()

    x, h_prev, *params = arrays
    rnn = RNN(*params)
    rnn.forward(x, h_prev)
    actual = [*rnn.backward(dh_next), *rnn.grads]
    for got, expected in zip(actual, complex_step(loss, *arrays), strict=True):
        assert relative_error(got, expected) <= 1e-12


def test_backward_overwrites_grads_in_place():
    rng = np.random.default_rng(2)
    rnn = RNN(rng.standard_normal((3, 4)), rng.standard_normal((4, 4)), rng.standard_normal(4))
    held = list(rnn.grads)
    rnn.forward(rng.standard_normal((2, 3)), rng.standard_normal((2, 4)))
    dh_next = rng.standard_normal((2, 4))
    rnn.backward(dh_next)
    first = [grad.copy() for grad in rnn.grads]
    rnn.backward(dh_next)
    for now, then, array in zip(rnn.grads, first, held, strict=True):
        assert now is array
        np.testing.assert_array_equal(now, then)


def test_params_are_the_given_arrays():
    arrays = [np.ones((3, 4)), np.ones((4, 4)), np.ones(4)]
    assert all(param is array for param, array in zip(RNN(*arrays).params, arrays, strict=True))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 4), (4, 5), (4,)], r"RNN: Wh must have shape \(H=4, H=4\), got \(4, 5\)"),
        ([(3, 5), (4, 4), (4,)], r"RNN: Wx must have shape \(D, H=4\), got \(3, 5\)"),
        ([(3, 4), (4, 4), (1, 4)], r"RNN: b must have shape \(H=4\), got \(1, 4\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        RNN(*[np.ones(shape) for shape in shapes])


def test_arguments_that_do_not_fit_are_refused():
    rnn = RNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4))
    with pytest.raises(ValueError, match=r"RNN.backward: nothing to differentiate; call forward first"):
        rnn.backward(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"RNN.forward: x must have shape \(N, D=3\), got \(2, 5\)"):
        rnn.forward(np.ones((2, 5)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"RNN.forward: h_prev must have shape \(N=2, H=4\), got \(1, 4\)"):
        rnn.forward(np.ones((2, 3)), np.ones((1, 4)))
    rnn.forward(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"RNN.backward: dh_next must have shape \(N=2, H=4\), got \(4,\)"):
        rnn.backward(np.ones(4))
