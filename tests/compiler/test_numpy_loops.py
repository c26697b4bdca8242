"""Operands and results that do not lie next to each other in memory: NumPy's loops for them must not be trusted."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.table import UFUNCS
from tinygrad_rnn.engine.arrays import MISREAD, applied

UNARY = [ufunc for ufunc in dict.fromkeys((*UFUNCS.values(), *MISREAD)) if ufunc.nin == 1]
SPECIAL = [0.1, 0.3, -0.0, 0.9, np.nan, np.inf, -np.inf]


def drawn(shape, dtype, seed=0):
    found = np.random.default_rng(seed).choice(SPECIAL, shape)
    with np.errstate(invalid="ignore"):
        return found.astype(dtype)


def array_of(value):
    return value.data if isinstance(value, tr.Tensor) else value


def sides(function, y):
    """A function of columns, and others, joined along the last axis: the result of each is written apart."""
    joined = np.concatenate([function(y[:, :1, -1]), function(y[:, 1:, -1])], axis=1)
    columns = np.stack([function(y[:, 0, 0]), function(y[:, 1, 0])], axis=-1)
    return columns, joined, function(y.T), np.stack([function(y), function(y)], 1)


def assert_joined(function, dtype, executor):
    for width in (1, 2, 4, 8):
        x, ones = drawn((40, 2, width), dtype), tr.parameter(np.ones(width), dtype)

        def f(x, ones):
            return sides(function, x), sides(function, x * ones)

        with np.errstate(all="ignore"):
            expected, found = f(x, ones), tr.compile(f, executor=executor)(x, ones)
        for number, (a, b) in enumerate(zip(sum(expected, ()), sum(found, ()), strict=True)):
            np.testing.assert_allclose(b, array_of(a), rtol=2e-6, err_msg=f"{width} {number}", strict=True)


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [*UNARY, tr.relu, tr.softplus], ids=lambda f: f.__name__)
def test_columns_that_are_joined(function, dtype, executor):
    assert_joined(function, dtype, executor)


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_columns_of_functions_that_numpy_gets_wrong(executor):
    for function in (*MISREAD, tr.sigmoid):
        for dtype in (np.float32, np.float64):
            assert_joined(function, dtype, executor)


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_whole_numbers_that_are_joined(dtype, executor):
    x = np.random.default_rng(0).integers(-9, 9, (7, 8)).astype(dtype)
    for step in (1, 2, 4, 8):

        def f(x, step=step):
            return np.stack([-x[:, ::step][:, 0], x[:, 0]], axis=1), np.negative(x[:, ::step].T)

        for a, b in zip(f(x), tr.compile(f, executor=executor)(x), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("function", sorted(MISREAD, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_every_distance_of_operand_and_result(function):
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        for apart in (-8, -4, -2, -1, 0, 1, 2, 3, 4, 8, 16):
            x = np.lib.stride_tricks.as_strided(
                drawn(400, dtype)[200:], (11,), (apart * np.dtype(dtype).itemsize,), writeable=False
            )
            for other in (-2, -1, 1, 2, 4, 8):
                out = np.zeros(200, function(x.copy()).dtype)[:: abs(other)][:11][:: np.sign(other)]
                np.testing.assert_array_equal(applied(function, x, out), function(x.copy()))


def test_negative_and_sigmoid_with_out():
    x = drawn((9, 4), np.float32)[:, 0]
    for function in (tr.negative, tr.sigmoid):
        out = np.zeros((9, 2), np.float32)
        with np.errstate(all="ignore"):
            function(x, out=out[:, 1])
            np.testing.assert_array_equal(out[:, 1], function(x.copy()))
