"""Systems of linear equations: what comes back, in which dtype, and what is refused."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

RNG = np.random.default_rng
A, B = RNG(0).standard_normal((2, 3, 3)) + 3 * np.eye(3), RNG(1).standard_normal((2, 3, 2))


class Kalman(tr.Module):
    """A linear filter: the state is the mean and the covariance of what it has seen."""

    def __init__(self, n, rng):
        self.F = tr.parameter(0.9 * np.eye(n) + 0.1 * rng.standard_normal((n, n)))
        self.H = tr.parameter(rng.standard_normal((2, n)))
        self.r = tr.parameter(np.zeros(2))

    def initial_state(self, batch_size):
        n = len(self.F)
        return np.zeros((batch_size, n)), np.broadcast_to(np.eye(n), (batch_size, n, n))

    def __call__(self, z, state):
        mean, P = state[0] @ self.F.T, self.F @ state[1] @ self.F.T + np.eye(len(self.F))
        error = z - mean @ self.H.T
        gain = np.linalg.solve(self.H @ P @ self.H.T + np.diag(np.exp(self.r)), self.H @ P).mT
        mean = mean + np.matvec(gain, error)
        return mean, (mean, P - gain @ self.H @ P)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.complex64])
def test_dtypes(dtype):
    a, b = A.astype(dtype), B.astype(dtype)
    x, inverse = tr.solve(tr.tensor(a), b), tr.inv(tr.tensor(a))
    assert x.dtype == inverse.dtype == dtype
    error = 50 * np.finfo(dtype).eps
    assert np.abs(a @ x.data - b).max() < error
    assert np.abs(a @ inverse.data - np.eye(3)).max() < error


def test_whole_numbers_and_lists():
    for one in (tr.solve([[2, 0], [0, 4]], [1, 1]), np.diag(tr.inv([[2, 0], [0, 4]]))):
        np.testing.assert_array_equal(one, [0.5, 0.25])


def test_against_numpy():
    for a, b in ((A, B), (A, B[0]), (A[0], B), (A, B[0, :, 0]), (A[0], B[0, :, 0]), (A[:, None], B)):
        np.testing.assert_allclose(tr.solve(tr.tensor(a), b).data, np.linalg.solve(a, b), rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda x: np.linalg.inv(x * np.ones((2, 2))), tr.NonFiniteError, "inv: a matrix is singular"),
        (lambda x: np.linalg.solve(x * np.zeros((2, 2)), np.ones(2)), tr.NonFiniteError, "solve: a matrix is singular"),
        (
            lambda x: np.linalg.inv(x * np.ones((2, 3))),
            tr.ShapeError,
            r"inv: expected .*\(\.\.\., M, M\), got .*\(2, 3\)",
        ),
        (lambda x: np.linalg.inv(x), tr.ShapeError, r"inv: expected"),
        (
            lambda x: np.linalg.solve(x * A, np.ones((2, 3))),
            tr.ShapeError,
            r"solve: .*\(2, 3\); vectors .*b\[\.\.\., None\]",
        ),
        (lambda x: np.linalg.solve(x * A, x), tr.ShapeError, r"solve: .*got shapes \(2, 3, 3\) and \(\)"),
        (
            lambda x: np.linalg.solve(x * A, np.ones((4, 3, 2))),
            tr.ShapeError,
            r"solve: .*shape \(2, 3, 3\), \(4, 3, 2\)",
        ),
    ],
)
def test_refused(function, error, words):
    x = tr.tensor(1.0, requires_grad=True)
    with pytest.raises(error, match=words):
        function(x)
    with pytest.raises(error, match=words):
        tr.compile(function)(x)


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_a_kalman_filter(executor):
    cell = Kalman(4, RNG(0))
    check_grads(cell, RNG(1).standard_normal((2, 4, 2)), order=2)

    def f(params, zs):
        means, (_, P) = tr.unroll(cell, zs)
        loss = np.mean(means**2) + np.mean(P)
        return loss, means, tr.grad(loss, params)

    fast = tr.compile(f, executor=executor)
    for T in (3, 5, 9):
        zs = RNG(T).standard_normal((3, T, 2))
        for one, other in zip(f(cell.parameters(), zs)[:2], fast(cell.parameters(), zs)[:2], strict=True):
            np.testing.assert_allclose(other, one.data, rtol=1e-12)
        for name, g in f(cell.parameters(), zs)[2].items():
            np.testing.assert_allclose(fast(cell.parameters(), zs)[2][name], g, rtol=1e-10, atol=1e-12)


def test_credit_carried_forward_through_a_filter():
    cell = Kalman(3, RNG(0))

    def step(zs, state):
        means, state = tr.unroll(cell, zs, state)
        return np.sum(np.sin(means)), state

    zs = RNG(1).standard_normal((2, 5, 2))
    full, online = (
        tr.bptt(step, cell.parameters(), zs, cell.initial_state(2), policy).gradients for policy in ("full", "rtrl")
    )
    for name, g in full.items():
        np.testing.assert_allclose(online[name], g, rtol=1e-9, atol=1e-12)
