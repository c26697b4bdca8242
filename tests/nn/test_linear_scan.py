"""The parallel scan against the loop that defines it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads


def loop(a, b, initial, reverse):
    """(N, T, H) each; the definition."""
    h, found = initial, np.empty(b.shape, np.result_type(a, b))
    for t in reversed(range(b.shape[1])) if reverse else range(b.shape[1]):
        h = found[:, t] = a[:, t] * h + b[:, t]
    return found


shapes = st.tuples(st.integers(1, 3), st.integers(1, 130), st.integers(1, 3))


@given(shapes, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 999))
def test_it_is_the_loop(shape, reverse, is_complex, compiled, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1.2, 1.2, shape), rng.standard_normal(shape)
    a[rng.random(shape) < 0.1] = 0  # nothing divides by a
    if is_complex:
        a = a * np.exp(1j * rng.uniform(0, 6, shape))
        compiled = False  # plans are real
    initial = rng.standard_normal((shape[0], shape[2]))
    function = tr.compile(tr.linear_scan) if compiled else tr.linear_scan
    found = function(a, b, initial, reverse=reverse)
    expected = loop(a, b, initial, reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_wide_steps_are_taken_one_by_one():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 5, 4096)), rng.standard_normal((2, 5, 4096))
    np.testing.assert_allclose(tr.linear_scan(a, b), loop(a, b, 0, False))


@pytest.mark.parametrize("T", [1, 2, 7, 8, 11, 17])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients(T, reverse):
    rng = np.random.default_rng(T)
    weights = rng.standard_normal((2, T, 3))

    def loss(a, b, initial):
        return (tr.linear_scan(a, b, initial, reverse=reverse) * weights).sum()

    a, b = rng.uniform(-1, 1, (T, 3)), rng.standard_normal((2, T, 3))  # a broadcasts over the batch
    a[T // 2, 0] = 0
    assert check_grads(loss, a, b, rng.standard_normal((2, 3))).ok


@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_whether_derivatives_depend_on_what_they_are_derivatives_by(T, compiled):
    """Of one step they are constants, in eager execution too: h_0 = a_0 * 0 + b_0."""
    depends = []

    def f(a, b):
        slopes = tr.grad(np.sum(tr.linear_scan(a, b, axis=0)), [a, b], create_graph=True)
        depends[:] = [slope.requires_grad for slope in slopes]
        return slopes

    a, b = (tr.tensor(np.full((T, 2), 0.5), requires_grad=True) for _ in range(2))
    (tr.compile(f) if compiled else f)(a, b)
    assert depends == [T > 1, T > 1]


def test_gradients_of_gradients():
    rng = np.random.default_rng(1)
    a, b = (tr.tensor(rng.uniform(-1, 1, (1, 9, 2)), requires_grad=True) for _ in range(2))

    def slopes(scanned):
        first = tr.grad((scanned(a, b) ** 2).sum(), a, create_graph=True)
        return tr.grad((first**2).sum(), [a, b])

    def by_scan(a, b):
        return tr.scan(lambda x, h: (x[0] * h + x[1],) * 2, np.zeros((1, 2)), (a, b))[0]

    for found, expected in zip(slopes(tr.linear_scan), slopes(by_scan), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_axis_dtype_and_broadcasting():
    b = np.ones((4, 2), np.float32)
    assert tr.linear_scan(np.float32(0.5), b, axis=0).dtype == np.float32
    np.testing.assert_allclose(tr.linear_scan(0.5, b, axis=0)[:, 1], [1, 1.5, 1.75, 1.875])
    np.testing.assert_allclose(tr.linear_scan([0.5, 0.0], b, [2.0, 2.0], axis=-2)[:2], [[2, 1], [2, 1]])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.ones(3), np.ones((2, 4))), r"expected a of a shape that broadcasts to \(2, 4\), got \(3,\)"),
        ((np.ones((5, 2, 4)), np.ones((2, 4))), r"expected a of a shape that broadcasts to \(2, 4\), got \(5, 2, 4\)"),
        ((1.0, np.ones((2, 3)), np.ones(5)), r"expected initial of a shape that broadcasts to \(2,\), got \(5,\)"),
        ((1.0, np.ones((2, 0))), r"expected b with at least one step along axis 1, got shape \(2, 0\)"),
        ((1.0, np.ones(2)), r"axis must lie in \[-1, 1\)"),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(tr.ShapeError, match=f"linear_scan: {text}"):
        tr.linear_scan(*arguments)
