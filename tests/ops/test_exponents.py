"""Exponentials, logarithms, angles: values as NumPy's, and gradients at the edges of their domains."""

import numpy as np
import pytest
from numpy_cases import ELEMENTWISE, draw

import tinygrad_rnn as tr

INF = np.inf


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_values_and_dtypes_are_numpys(name, dtype):
    f, *_ = ELEMENTWISE[name]
    arrays = [np.abs(a * (1 if dtype == "int64" else 0.9)).astype(dtype) for a in draw(ELEMENTWISE[name], 0)]
    with np.errstate(all="ignore"):
        expected, y = f(*arrays), f(*map(tr.tensor, arrays))
    assert y.dtype == expected.dtype
    derived = name in ("logaddexp2", "deg2rad")
    np.testing.assert_allclose(y.data, expected, rtol=1e-6 if derived else 0, atol=0)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: np.logaddexp(x, -INF), [-INF, 0.0, INF], [0.0, 1.0, 1.0]),
        (lambda x: np.logaddexp(-INF, x), [-INF, 0.0, INF], [0.0, 1.0, 1.0]),
        (lambda x: np.logaddexp(x, x), [-INF, 3.0], [0.0, 1.0]),
        (lambda x: np.logaddexp(x, 1000.0), [1000.0, 2000.0], [0.5, 1.0]),
        (lambda x: np.hypot(x, 0.0), [0.0, -3.0], [0.0, -1.0]),
        (lambda x: np.hypot(x, 3e200), [4e200], [0.8]),
        (np.arcsinh, [1e200, 0.0], [1e-200, 1.0]),
        (np.arccosh, [1e200], [1e-200]),
        (np.expm1, [-50.0, 0.0], [np.exp(-50.0), 1.0]),
        (np.log1p, [0.0, -1.0], [1.0, INF]),
        (np.arctanh, [1.0], [INF]),
        (np.arctan, [INF], [0.0]),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_gradients_at_the_edges(f, x, expected):
    leaf = tr.tensor(x, requires_grad=True)
    np.testing.assert_allclose(tr.grad(f(leaf), leaf, cotangent=np.ones(len(x))), expected, rtol=1e-15)


@pytest.mark.parametrize("point", [(1.0, 2.0), (1.0, -2.0), (-1.0, -2.0), (-1.0, 2.0), (0.0, -1.0), (1e200, 1e200)])
def test_arctan2_in_each_quadrant(point):
    y, x = (tr.tensor(part, requires_grad=True) for part in point)
    angle = np.arctan2(y, x)
    assert angle.item() == np.arctan2(*point)
    unit, radius = np.array([point[1], -point[0]]) / np.hypot(*point), np.hypot(*point)
    np.testing.assert_allclose(tr.grad(angle, [y, x]), unit / radius, rtol=1e-15)
