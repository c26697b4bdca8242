"""Checks of gradients at numbers of any size: steps are small against what they move."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import GradCheckError, check_grads

TINY, HUGE = 1e-300, 1e300
METHODS = pytest.mark.parametrize("method", ["complex", "longdouble"])


@tr.primitive()
def doubled_log(x, /):
    return np.log(x)


@doubled_log.rule(keep="x")
def _(g, y, x):
    return (2 * g / x,)


@METHODS
@pytest.mark.parametrize("f", [np.log, np.sqrt, lambda x: np.log(x + x), lambda x: x * 3.0, lambda x: np.log(x) * x[0]])
@pytest.mark.parametrize("x", [[1e-26], [TINY], [1e-6], [1e-3], [HUGE], [1e30], [1e-26, 1.0, 1e20], [1e-150, 1e150]])
def test_right_gradients(f, x, method):
    assert check_grads(lambda x: np.sum(f(x)), np.array(x), method=method).ok


@METHODS
@pytest.mark.parametrize("x", [[1e-26], [TINY], [1e-3], [HUGE], [1e30], [1e-26, 1.0, 1e20]])
def test_wrong_gradients(x, method):
    with pytest.raises(GradCheckError, match="2"):
        check_grads(lambda x: np.sum(doubled_log(x)), np.array(x), method=method)


@pytest.mark.parametrize("x", [[0.0], [0.0, TINY, HUGE], [TINY, 1.0]])
def test_zeros_beside_numbers_of_any_size(x):
    assert check_grads(lambda x: np.sum(x * 3.0), np.array(x)).ok
    assert check_grads(lambda x: np.sum(tr.sigmoid(x)), np.array(x)).ok


@METHODS
@pytest.mark.parametrize("f", [np.abs, tr.relu, lambda x: np.maximum(x, 0)])
@pytest.mark.parametrize("x", [[1e-26, -1e-26], [TINY, -TINY], [1e-6, -1e-6], [HUGE / 1e3, -1.0]])
def test_kinks_beside_small_numbers(f, x, method):
    assert check_grads(lambda x: np.sum(f(x)), np.array(x), method=method).ok


def test_second_order():
    assert check_grads(lambda x: np.sum(np.log(x)), np.array([1e-26, 1.0]), order=2).ok
