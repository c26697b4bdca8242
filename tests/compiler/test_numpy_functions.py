"""NumPy functions in a compiled function: values, gradients and gradients of gradients are those of eager code."""

import numpy as np
import numpy_cases
import pytest
from numpy_cases import CASES
from replay import assert_replays

import tinygrad_rnn as tr

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


@pytest.mark.sample(60)
@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_eager(name):
    compare(name, "float64")


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", numpy_cases.ELEMENTWISE)
def test_compiled_equals_eager_in_float32(name):
    compare(name, "float32")


def compare(name, dtype):
    f, *_ = CASES[name]

    def step(*xs):
        y = f(*xs)
        first = tr.grad(np.sum(np.tanh(y)), xs, create_graph=True)
        return y, first, tr.grad(sum(np.sum(g * g) for g in first), xs, allow_unused=True)

    calls = [[tr.tensor(a, dtype, True) for a in numpy_cases.draw(CASES[name], seed)] for seed in (0, 1)]
    assert_replays(step, *calls, tolerance=TOLERANCE[dtype])


def test_masks_are_joined_in_a_compiled_function():
    def f(x):
        inside = (x > -1) & ~(x > 1) | (x == 5)
        return (
            np.where(inside ^ (x > 2), x, 0.0),
            np.any(inside, axis=1),
            np.sum(x, where=~np.isnan(x)),
            x.argmax(axis=0),
        )

    calls = [
        (tr.tensor(np.random.default_rng(seed).standard_normal((3, 4)) * 2, requires_grad=True),) for seed in (0, 1)
    ]
    assert_replays(f, *calls)


@pytest.mark.parametrize(
    "function", [np.nonzero, np.flatnonzero, np.argwhere, lambda x: np.bincount(np.astype(x, int))]
)
def test_answers_whose_length_depends_on_values_are_refused(function):
    with pytest.raises(tr.TraceError, match="length depends on values"):
        tr.compile(function)(tr.tensor([0.0, 1.0]))


def test_shapes_may_depend_on_shapes():
    assert_replays(lambda x: x[np.tril_indices_from(x)], (np.arange(9.0).reshape(3, 3),), (np.ones((3, 3)),))


def of_whole_numbers(i, m):
    """Operators and functions of whole numbers and truth values; arrays stay arrays in eager code."""
    bits = i << 2, i >> 1, 2 << i % 3, 64 >> i % 3, i & 3, 3 | i, i ^ 5, ~i
    return *bits, np.round(i, -1), i.round(-2), np.round(i, 1), np.square(m), np.square(i), np.reciprocal(i), m & 3


def reduced_whole_numbers(i, m):
    """Averages, and reductions in a dtype that is asked for; products and sums of bytes are more than bytes."""
    small = np.sum(i, dtype=np.uint8), np.prod(i, dtype=np.int16), np.cumsum(i, dtype=np.uint8), np.sum(m, dtype=bool)
    averages = np.average(i, weights=i), *np.average(m, weights=i, returned=True), np.average(i / 2, weights=m)
    return *small, *averages, np.cumprod(i, dtype=np.int32), np.clip(i, 2, 2**70), np.clip(i, -(2**70), 30)


@pytest.mark.parametrize("of_whole_numbers", [of_whole_numbers, reduced_whole_numbers])
@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
def test_whole_numbers_and_truth_values(dtype, of_whole_numbers):
    i = np.array([1, 2, 3, 15, 25, 34, 100]).astype(dtype)
    calls = [(i, i > 3), (i[::-1], i < 3)]
    assert_replays(of_whole_numbers, *calls)
    for wanted, found in zip(of_whole_numbers(*calls[0]), of_whole_numbers(*map(tr.tensor, calls[0])), strict=True):
        np.testing.assert_array_equal(np.asarray(found), wanted, strict=True)
