"""Kernels on arrays: the same as what they stand for, and nothing lost for logits of any size."""

import warnings

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.replay import kernels
from tinygrad_rnn.compiler.replay.kernels import LOSS_AND_GRADIENT

M, V = 9, 40


def reference(logits, targets, ignore_label, g):
    """Return loss and gradient as eager execution computes them, in float64."""
    x = tr.tensor(logits.astype(np.float64), requires_grad=True)
    loss = tr.cross_entropy(x, targets, ignore_label)
    return np.asarray(loss.data), tr.grad(loss, x, cotangent=np.asarray(float(g)))


def rows(*shifts):
    """Return normal logits (M, V), each row shifted."""
    return np.random.default_rng(0).standard_normal((M, V)) + np.resize(shifts, M)[:, None]


def with_one(number, value):
    """Return normal logits, in which every row has this value at one place."""
    logits = rows(0)
    logits[:, number] = value
    return logits


LOGITS = {
    "normal": rows(0),
    "high": rows(1e4),
    "low": rows(-1e4),
    "just_inside": rows(40, -40),
    "around_the_borders": rows(44, 46, 48, -44, -46, -48, -50),
    "overflow_of_float32": rows(88, 89, 90),
    "underflow_of_float32": rows(-86, -90, -104, -110),
    "overflow_of_float64": rows(709, 710),
    "underflow_of_float64": rows(-700, -745, -750),
    "one_bad_row": rows(0, 0, 0, 0, 1e4, 0, 0, 0, 0),
    "all_equal": np.full((M, V), 3.0),
    "all_equal_and_high": np.full((M, V), 1e4),
    "sure": with_one(3, 30.0),
    "sure_and_high": with_one(3, 1e4),
    "sure_and_low": with_one(3, -1e4),
    "impossible": with_one(3, -np.inf),
}


@pytest.mark.parametrize("block", [1, 3 * V, 1 << 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_loss_and_gradient_of_logits_of_any_size(logits, dtype, block, monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", block)
    logits, targets = logits.astype(dtype), np.arange(4, M + 4)
    expected = reference(logits, targets, -1, 0.5)
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = LOSS_AND_GRADIENT.compute(logits, 0.5, targets=targets, ignore_label=-1)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    assert (loss.dtype, gradient.dtype) == (dtype, dtype)
    np.testing.assert_allclose(loss, expected[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, expected[1], rtol=0, atol=tolerance * 0.5 / M)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_near_zero_keeps_its_digits(dtype):
    """A shift of all logits of a row changes nothing: no digits of the loss are lost to the size of the logits."""
    logits = np.zeros((M, V), dtype)
    logits[:, 3] = 10
    targets = np.full(M, 3)
    expected = float(np.log1p((V - 1) * np.exp(-10.0)))
    for shift in (-40, 0, 30):
        loss, _ = LOSS_AND_GRADIENT.compute(logits + dtype(shift), 1.0, targets=targets, ignore_label=-1)
        assert float(loss) == pytest.approx(expected, abs=2e-7 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("shift", [-80, 0, 80])
def test_a_gradient_of_small_weight_keeps_its_digits(shift):
    logits, targets = rows(shift).astype(np.float32), np.arange(4, M + 4)
    expected = reference(logits, targets, -1, 1e-12)[1]
    gradient = LOSS_AND_GRADIENT.compute(logits, 1e-12, targets=targets, ignore_label=-1)[1]
    np.testing.assert_allclose(gradient, expected, rtol=2e-6)


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_masked_positions_over_the_logits_in_two_parts(logits):
    logits, targets = logits.astype(np.float32), np.arange(4, M + 4)
    targets[[0, 4]] = -1
    expected = reference(logits, targets, -1, 2.0)
    loss = np.empty((), np.float32)

    def each(work, count):
        return [work(4, count), work(0, 4)]

    out = loss, logits
    assert LOSS_AND_GRADIENT.compute(logits, 2.0, targets=targets, ignore_label=-1, out=out, each=each) is not None
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(logits, expected[1], rtol=0, atol=1e-6)
    assert not logits[[0, 4]].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(value):
    logits, targets = with_one(3, value).astype(np.float32), np.arange(4, M + 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loss, gradient = LOSS_AND_GRADIENT.compute(logits, 1.0, targets=targets, ignore_label=-1)
    assert np.isnan(loss)
    assert np.isnan(gradient).all()


@pytest.mark.parametrize("shift", [-45.0, -20.0, 0.0, 20.0, 45.0])
def test_small_losses_of_high_logits(shift):
    """Logits between which no largest one is taken off: log(sum) and the logit cancel, but for a little."""
    logits = rows(shift) * 1e-3 + shift
    targets = np.arange(M)
    logits[targets, targets] += 13
    loss, _ = LOSS_AND_GRADIENT.compute(logits, 1.0, targets=targets, ignore_label=-1)
    others = np.exp(logits - logits[targets, targets][:, None])
    others[targets, targets] = 0
    exact = np.mean(np.log1p(others.sum(axis=1)))
    assert abs(loss - exact) < 2 * np.finfo(float).eps


def test_the_loss_of_one_class_is_nothing():
    logits = np.random.default_rng(0).standard_normal((50, 1))
    loss, gradient = LOSS_AND_GRADIENT.compute(logits, 1.0, targets=np.zeros(50, int), ignore_label=-1)
    assert loss == 0
    assert not gradient.any()
