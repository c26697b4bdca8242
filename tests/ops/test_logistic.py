"""The logistic function, its logarithm and the loss of two classes, as far out as there are numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import STEP
from replay import executors, value_and_gradient

import tinygrad_rnn as tr

WIDER = {np.float32: np.float64, np.float64: np.longdouble}
FAR = {np.float32: 87, np.float64: 708}  # up to there sigmoid(-x) is a normal number
COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")


def ulps(actual, exact, dtype):
    """Return the largest error in units in the last place."""
    assert actual.dtype == dtype
    return np.max(np.abs(actual - exact) / np.spacing(np.abs(exact.astype(dtype))).astype(exact.dtype))


@COMPILED
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_tails_have_full_relative_precision(dtype, setting):
    if dtype == np.float64 and np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("NumPy has no wider type here")
    rng, far = np.random.default_rng(0), FAR[dtype]
    x = np.concatenate([rng.uniform(-far, far, 20000), rng.uniform(-20, 20, 20000), rng.standard_normal(20000)])
    x = x.astype(dtype)
    e = np.exp(-np.abs(x.astype(WIDER[dtype])))
    exact, slope = np.where(x < 0, e, 1) / (1 + e), e / (1 + e) ** 2
    y, d = value_and_gradient(tr.sigmoid, x, setting)
    loose = 1.5 if dtype == np.float32 else 0  # NumPy's exp of float32 is off by up to 2.5 units itself
    assert ulps(y, exact, dtype) <= 3 + loose
    assert ulps(d, slope, dtype) <= 5 + loose
    y, d = value_and_gradient(tr.softplus, x, setting)
    assert ulps(y, np.maximum(x, 0) + np.log1p(e), dtype) <= 3
    assert ulps(d, exact, dtype) <= 3 + loose


@COMPILED
@pytest.mark.parametrize(
    ("x", "value", "slope"),
    [
        (-40.0, 4.248354255291589e-18, 4.248354255291589e-18),
        (40.0, 1.0, 4.248354255291589e-18),
        (37.0, 1.0, 8.533047625744066e-17),
        (-700.0, 9.85967654375977e-305, 9.85967654375977e-305),
        (700.0, 1.0, 9.85967654375977e-305),
        (800.0, 1.0, 0.0),
        (-800.0, 0.0, 0.0),
        (np.inf, 1.0, 0.0),
        (-np.inf, 0.0, 0.0),
        (np.nan, np.nan, np.nan),
    ],
)
def test_values_and_slopes(x, value, slope, setting):
    y, d = value_and_gradient(tr.sigmoid, np.array([x, 0.0]), setting)
    np.testing.assert_allclose(y, [value, 0.5], rtol=1e-15)
    np.testing.assert_allclose(d, [slope, 0.25], rtol=1e-15)


@COMPILED
def test_a_logarithm_of_a_probability_is_finite(setting):
    x = np.array([-40.0, -700.0, 0.0, 40.0])
    y, d = value_and_gradient(lambda x: np.log(tr.sigmoid(x)), x, setting)
    np.testing.assert_allclose(y, [-40.0, -700.0, -np.log(2), -4.25e-18], rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(d, [1, 1, 0.5, 4.248354255291589e-18], rtol=1e-14)
    y, d = value_and_gradient(tr.log_sigmoid, np.append(x, -1e300), setting)
    np.testing.assert_allclose(y, [-40.0, -700.0, -np.log(2), -4.248354255291589e-18, -1e300], rtol=1e-15)
    np.testing.assert_allclose(d, [1, 1, 0.5, 4.248354255291589e-18, 1], rtol=1e-14)


@pytest.mark.parametrize("f", [tr.sigmoid, tr.softplus, tr.log_sigmoid], ids=lambda f: f.__name__)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1.0, 30.0, 300.0]))
def test_orders_agree_with_complex_step_far_out(f, seed, scale):
    """Relative to each entry: nothing may be lost next to a larger one."""
    x = scale * np.random.default_rng(seed).standard_normal(5)
    leaf = tr.tensor(x, requires_grad=True)
    first = tr.grad(np.sum(f(leaf)), leaf, create_graph=True)
    np.testing.assert_allclose(first.data, f(x + 1j * STEP).imag / STEP, rtol=1e-13, atol=1e-270)
    stepped = tr.tensor(x + 1j * STEP, requires_grad=True)
    second = tr.grad(np.sum(f(stepped)), stepped).imag / STEP
    np.testing.assert_allclose(tr.grad(np.sum(first), leaf), second, rtol=1e-10, atol=1e-270)
    np.testing.assert_allclose(f(x + 0j).real, f(x), rtol=1e-13, atol=1e-270)


@pytest.mark.parametrize("x", [True, np.uint8(3), [1, 2], np.array([True, False]), np.array([[-1]], np.int8)])
def test_numbers_that_are_no_floats(x):
    expected = 1 / (1 + np.exp(-np.asarray(x, float)))
    np.testing.assert_allclose(tr.sigmoid(x), expected, rtol=1e-15)
    np.testing.assert_allclose(tr.softplus(x), np.log1p(np.exp(np.asarray(x, float))), rtol=1e-15)


def test_results_over_operands():
    x = np.array([-40.0, 0.5, 40.0])
    for f in (tr.sigmoid, tr.softplus):
        expected, own = f(x), x.copy()
        assert f(own, out=own) is own
        assert np.array_equal(own, expected)


# -- the loss of two classes -----------------------------------------------------------------------------------------


def by_definition(z, t):
    return np.mean(t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z))


@COMPILED
@given(seed=st.integers(0, 2**32 - 1))
def test_binary_cross_entropy(setting, seed):
    rng = np.random.default_rng(seed)
    z, t = 10 * rng.standard_normal((3, 4)), rng.random((3, 4))
    t[0] = rng.integers(0, 2, 4)
    masked = rng.random((3, 4)) < 0.3
    masked[0, 0] = False
    given_t = np.where(masked, -1, t)

    def both(z, t):
        loss = tr.binary_cross_entropy(z, t)
        return loss, tr.grad(loss, z)

    leaf = tr.tensor(np.where(masked, np.nan, z), requires_grad=True)
    loss, d = both(leaf, given_t) if setting is None else tr.compile(both, **setting)(leaf, given_t)
    assert float(loss.data if setting is None else loss) == pytest.approx(by_definition(z[~masked], t[~masked]), 1e-13)
    expected = np.where(masked, 0, 1 / (1 + np.exp(-z)) - t) / np.count_nonzero(~masked)
    np.testing.assert_allclose(d, expected, rtol=1e-11, atol=1e-15)
    assert np.all(d[masked] == 0)


@COMPILED
def test_nothing_cancels_far_out(setting):
    def f(z):
        return tr.binary_cross_entropy(z, np.array([1.0, 0.0, 1.0, 0.0]))

    z = np.array([50.0, -50.0, -800.0, 800.0])
    loss, d = value_and_gradient(f, z, setting)
    assert float(loss) == 400.0
    np.testing.assert_allclose(d, [-4.821874619909795e-23, 4.821874619909795e-23, -0.25, 0.25], rtol=1e-12)
    loss, _ = value_and_gradient(lambda z: tr.binary_cross_entropy(z, [True, False]), z[:2], setting)
    assert float(loss) == pytest.approx(np.exp(-50.0), rel=1e-14)
    loss, d = value_and_gradient(lambda z: tr.binary_cross_entropy(z, [1, 0]), np.array([np.inf, -np.inf]), setting)
    assert loss == 0
    assert not d.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_the_loss_has_the_dtype_of_its_logits(dtype):
    x = tr.tensor(np.zeros(20_000, dtype), requires_grad=True)
    loss = tr.binary_cross_entropy(x, np.full(20_000, 0.5))
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(np.log(2), rel=1e-3)
    assert tr.grad(loss, x).dtype == dtype


def test_the_second_order_of_the_loss():
    targets = np.array([[0.0, 1.0], [0.3, -1.0]])
    report = tr.testing.check_grads(
        lambda z: tr.binary_cross_entropy(z, targets), np.random.default_rng(0).standard_normal((2, 2)), order=2
    )
    assert report.ok


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: tr.binary_cross_entropy(x, [0.5]), tr.ShapeError, r"targets of shape \(2,\).* got \(1,\)"),
        (lambda x: tr.binary_cross_entropy(x, [0.5, 1.5]), ValueError, r"target 1.5 is outside \[0, 1\]"),
        (lambda x: tr.binary_cross_entropy(x, [0.5, np.nan]), ValueError, "target nan is outside"),
        (lambda x: tr.binary_cross_entropy(x, [-1, -1]), tr.ShapeError, "all 2 elements are masked"),
        (
            lambda x: tr.binary_cross_entropy(x, ["a", "b"]),
            tr.DTypeError,
            "targets: expected numbers, got list of dtype <U1",
        ),
        (lambda x: tr.binary_cross_entropy(x, x), tr.UnsupportedError, "targets are constants"),
        (lambda x: tr.binary_cross_entropy(np.array([1, 2]), [0, 1]), tr.DTypeError, "floating point logits, got.*int"),
        (lambda x: tr.cross_entropy(np.array([[1, 2]]), [0]), tr.DTypeError, "floating point logits, got dtype int"),
        (lambda x: tr.cross_entropy(tr.tensor([[1, 2]]), [0]), tr.DTypeError, "floating point logits, got dtype int"),
        (lambda x: tr.cross_entropy(tr.tensor([[True]]), [0]), tr.DTypeError, "floating point logits, got dtype bool"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(tr.tensor([0.0, 1.0], requires_grad=True))
