"""Rounding has the gradient 0, remainders have slope 1; both equal NumPy going forward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr

ROUNDING = {
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "sign": np.sign,
    "fix": lambda x: tr.ops.fix(x) if isinstance(x, tr.Tensor) else np.trunc(x),
    "round": np.round,
    "round, places": lambda x: np.round(x, 1),
    "around": lambda x: np.around(x, decimals=-1),
    "method": lambda x: x.round(1),
    "floor_divide": lambda x: x // 0.7,
    "floor_divide, right": lambda x: 2 // x,
    "whole part": lambda x: np.modf(x)[1],
}
REMAINDERS = {
    "%": lambda a, b: a % b,
    "np.mod": np.mod,
    "divmod": lambda a, b: divmod(a, b)[1],
    "np.fmod": np.fmod,
}
X = np.array([-2.5, -1.5, -0.3, 0.2, 0.5, 1.5, 2.71])


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounding_equals_numpy_and_its_gradient_is_zero(name, dtype):
    f, x = ROUNDING[name], tr.tensor(X, dtype, True)
    y = f(x)
    np.testing.assert_array_equal(y.data, f(X.astype(dtype)))
    assert y.dtype == dtype
    (g,) = tr.grad(np.sum(y), [x])
    assert g.dtype == dtype
    assert g.tolist() == [0] * len(X)
    assert tr.grad(y, x, cotangent=np.full(len(X), np.inf)).tolist() == [0] * len(X)
    first = tr.grad(np.sum(y * x), x, create_graph=True)
    np.testing.assert_array_equal(first.data, y.data)
    assert tr.grad(np.sum(first), x).tolist() == [0] * len(X)


@pytest.mark.parametrize("name", REMAINDERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_remainders(name, seed):
    f, rng = REMAINDERS[name], np.random.default_rng(seed)
    a, b = rng.standard_normal((3, 4)) * 5, rng.standard_normal(4)
    xs = [tr.tensor(part, requires_grad=True) for part in (a, b)]
    y = f(*xs)
    np.testing.assert_array_equal(y.data, f(a, b))
    quotient = np.trunc(a / b) if name == "np.fmod" else np.floor(a / b)
    by_a, by_b = tr.grad(np.sum(y), xs)
    np.testing.assert_array_equal(by_a, np.ones((3, 4)))
    np.testing.assert_array_equal(by_b, -quotient.sum(axis=0))


def test_reflected_operators_and_numbers():
    x = tr.tensor([0.7, -1.6], requires_grad=True)
    assert (5 % x).data.tolist() == (5 % x.data).tolist()
    assert (x % 0.5).data.tolist() == (x.data % 0.5).tolist()
    assert [part.data.tolist() for part in divmod(5, x)] == [part.tolist() for part in divmod(5, x.data)]
    assert tr.grad(np.sum(5 % x), x).tolist() == [-7, 4]


def test_integers_stay_integers():
    i = tr.tensor([7, -7])
    assert (i // 2).data.tolist() == [3, -4]
    assert (i % 4).dtype == i.dtype
    assert np.floor(i).dtype == np.floor(i.data).dtype


def test_a_straight_through_estimate():
    x = tr.tensor([0.4, 1.7], requires_grad=True)
    y = x + tr.cut(np.round(x) - x)
    assert y.data.tolist() == [0, 2]
    assert tr.grad(np.sum(y * y), x).tolist() == [0, 4]


@pytest.mark.parametrize("f", [np.floor, np.sign, np.round, lambda x: x % 2, lambda x: x // 2])
def test_complex_numbers_are_refused_with_a_sentence(f):
    with pytest.raises(tr.DTypeError, match="expected real numbers, got dtype complex128"):
        f(tr.tensor([1j]))


@pytest.mark.parametrize("f", [lambda x: x % 1j, lambda x: 1j // x, lambda x: np.fmod(x, 1j)])
def test_so_are_python_numbers(f):
    with pytest.raises(tr.DTypeError, match=r"expected real numbers, got dtype complex128 of shape \(\)"):
        f(tr.parameter([1.0]))
