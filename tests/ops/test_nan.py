"""NaN stays visible, in results and in gradients; and what an infinity gives where a limit says so."""

import numpy as np
import pytest
from replay import executors, value_and_gradient

import tinygrad_rnn as tr

COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")
NAN, INF = np.nan, np.inf


@COMPILED
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("f", "x", "value", "gradient"),
    [
        (np.max, [1, NAN, 3], NAN, [NAN] * 3),
        (np.min, [1, NAN, 3], NAN, [NAN] * 3),
        (lambda x: np.max(x, axis=1), [[1, NAN, 3], [1, 3, 3]], [NAN, 3], [[NAN] * 3, [0, 0.5, 0.5]]),
        (lambda x: np.min(x, axis=0, keepdims=True), [[1, NAN], [2, 3]], [[1, NAN]], [[1, NAN], [0, NAN]]),
        (np.max, [INF, 1, INF], INF, [0.5, 0, 0.5]),
        (np.max, [-INF, -INF], -INF, [0.5, 0.5]),
        (lambda x: np.maximum(x, 0), [NAN, 1, -1, 0], [NAN, 1, 0, 0], [NAN, 1, 0, 0.5]),
        (lambda x: np.maximum(0, x), [NAN, 1, -1, 0], [NAN, 1, 0, 0], [NAN, 1, 0, 0.5]),
        (lambda x: np.maximum(x, NAN), [NAN, 1], [NAN, NAN], [NAN, NAN]),
        (lambda x: np.minimum(x, 0), [NAN, 1, -1, 0], [NAN, 0, -1, 0], [NAN, 0, 1, 0.5]),
        (lambda x: np.minimum(x, [NAN, INF]), [1, 1], [NAN, 1], [NAN, 1]),
        (tr.relu, [NAN, 1, -1, 0, INF, -INF], [NAN, 1, 0, 0, INF, 0], [NAN, 1, 0, 0, 1, 0]),
        (np.abs, [NAN, -2, INF], [NAN, 2, INF], [NAN, -1, 1]),
        (lambda x: np.clip(x, -1, 1), [NAN, -2, -1, 0, 1, INF], [NAN, -1, -1, 0, 1, 1], [NAN, 0, 0.5, 1, 0.5, 0]),
        (lambda x: np.clip(x, NAN, 1), [0.5], [NAN], [NAN]),
        (lambda x: np.where(np.isnan(x), 0, x), [NAN, 2], [0, 2], [0, 1]),
        (lambda x: np.where([True, False], x, NAN), [1, 2], [1, NAN], [1, 0]),
        (lambda x: np.where(np.isnan(x), 0, tr.relu(x)), [NAN, 2, -1], [0, 2, 0], [0, 1, 0]),
        (lambda x: np.where(np.isnan(x), 0, np.clip(x, -1, 1)), [NAN, 2, 0.5], [0, 1, 0.5], [0, 0, 1]),
        (lambda x: np.where([True, False], 0, np.max(x, axis=1)), [[NAN, 1], [1, 2]], [0, 2], [[0, 0], [0, 1]]),
        (lambda x: np.fmax(x, 0), [NAN, 2, -1], [0, 2, 0], [0, 1, 0]),
        (lambda x: np.fmin(x, 0), [NAN, 2, -1], [0, 0, -1], [0, 0, 1]),
        (tr.logsumexp, [-INF, -INF], -INF, [0, 0]),
        (lambda x: tr.logsumexp(x, axis=1), [[-INF, -INF], [0, 0]], [-INF, np.log(2)], [[0, 0], [0.5, 0.5]]),
        (tr.logsumexp, [-INF, 0], 0, [0, 1]),
        (tr.logsumexp, [NAN, 0], NAN, [NAN, NAN]),
        (lambda x: tr.logsumexp(x, axis=1), np.zeros((2, 0)), [-INF, -INF], np.zeros((2, 0))),
        (lambda x: tr.softmax(x), np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0))),
    ],
)
def test_results_and_gradients(f, x, value, gradient, dtype, setting):
    y, d = value_and_gradient(f, np.array(x, dtype), setting)
    np.testing.assert_allclose(y, value, rtol=1e-6)
    np.testing.assert_array_equal(d, gradient)
    assert d.dtype == dtype


@COMPILED
def test_no_distribution_is_nan(setting):
    with np.errstate(invalid="ignore"):
        y, d = value_and_gradient(lambda x: tr.log_softmax(x)[:, 0], np.array([[-INF, -INF], [0, 0]]), setting)
    np.testing.assert_allclose(y, [NAN, -np.log(2)])
    np.testing.assert_allclose(d, [[NAN, NAN], [0.5, -0.5]])


@COMPILED
def test_a_recursion_in_log_space_survives_states_of_no_probability(setting):
    """The forward algorithm of a chain in which a state cannot be reached at first."""
    log_p = np.log(np.array([[0.5, 0.5, 1e-300], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]]))
    log_p[0, 2] = -INF
    log_p[1:, 1] = -INF

    def f(a):
        alpha = np.array([0.0, -INF, -INF])
        for _ in range(3):
            alpha = tr.logsumexp(np.expand_dims(alpha, 1) + a, axis=0)
        return tr.logsumexp(alpha)

    y, d = value_and_gradient(f, log_p, setting)
    assert np.isfinite(y)
    assert np.isfinite(d).all()
    assert np.all(d[np.isneginf(log_p)] == 0)
    p = np.exp(log_p)
    state = np.array([1.0, 0, 0]) @ p @ p @ p
    assert float(y) == pytest.approx(np.log(state.sum()), rel=1e-12)
    assert d.sum() == pytest.approx(3, rel=1e-12)  # each step chooses one way in all


@pytest.mark.parametrize("f", [tr.relu, np.max, np.min, lambda x: np.maximum(x, 0.5), lambda x: np.clip(x, -1, 1)])
def test_nan_is_no_matter_of_the_second_order_elsewhere(f):
    x = tr.tensor(np.array([0.3, -0.2, 2.0]), requires_grad=True)
    (first,) = tr.grad(np.sum(f(x) ** 3), [x], create_graph=True)
    assert np.isfinite(tr.grad(np.sum(first), x)).all()


# -- arguments that NumPy takes ----------------------------------------------------------------------------------


@COMPILED
@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.clip(x, -1.0, 1.0),
        lambda x: np.clip(x, a_min=-1.0, a_max=1.0),
        lambda x: np.clip(x, min=-1.0, max=1.0),
        lambda x: np.clip(x, -1.0, max=1.0),
        lambda x: tr.clip(x, min=-1.0, a_max=1.0),
    ],
)
def test_the_names_of_clips_bounds(f, setting):
    y, d = value_and_gradient(f, np.array([-2.0, 0.5, 3.0]), setting)
    np.testing.assert_array_equal(y, [-1, 0.5, 1])
    np.testing.assert_array_equal(d, [0, 1, 0])


def test_one_bound_of_clip_and_two_names_for_one():
    x = tr.tensor([-2.0, 3.0])
    assert np.array_equal(np.clip(x, min=0).data, [0, 3])
    assert np.array_equal(np.clip(x, max=0).data, [-2, 0])
    assert np.array_equal(np.clip(x, None, 0).data, [-2, 0])
    with pytest.raises(tr.UnsupportedError, match="clip: a bound was given twice"):
        np.clip(x, -1, min=-1)


@COMPILED
def test_any_and_all(setting):
    def f(x):
        return np.where(np.any(x > 1, axis=1, keepdims=True), x, 0), np.all(x > 0), np.any(np.isnan(x))

    x = tr.tensor([[0.5, 2.0], [0.1, 0.2]], requires_grad=True)
    y, everything, missing = f(x) if setting is None else tr.compile(f, **setting)(x)
    np.testing.assert_array_equal(y.data if isinstance(y, tr.Tensor) else y, [[0.5, 2], [0, 0]])
    assert bool(everything) is True
    assert bool(missing) is False


@pytest.mark.parametrize("z", [3 + 4j, np.array([1.0, 2j]), np.array([-1 - 1e-3j])])
def test_the_absolute_value_of_a_complex_number(z):
    for f in (np.abs, abs, tr.absolute):
        with pytest.raises(tr.UnsupportedError, match="absolute: .* has no complex derivative.*re \\* re"):
            f(tr.tensor(z, requires_grad=True))


def test_complex_step_through_absolute():
    x = np.array([-2.0, 1e-300, 3.0, 0.0])
    np.testing.assert_array_equal(tr.absolute(x + 1e-30j)[[0, 2]].imag, [-1e-30, 1e-30])
    assert tr.absolute(np.array([0.0 + 1e-30j])).imag == 1e-30
