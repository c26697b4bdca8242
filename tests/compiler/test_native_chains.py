"""Chains: elementwise calls on large arrays, which the library does together, block by block."""

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import array_of, assert_equal, need_library, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import map_leaves


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()
    with small_plans_shared():
        yield


SIZE = (1 << 14) + 2 * 59  # elements: the least that makes a chain, and more; the last block and part are shorter


def sgd(x, y, z, rate):
    return x - rate * y, np.sum(z, axis=0)


def momentum(x, y, z, rate):
    velocity = 0.9 * z + y
    return velocity, x - rate * velocity


def nesterov_and_its_norm(x, y, z, rate):
    velocity = 0.9 * z + y
    new = x - rate * (y + 0.9 * velocity)
    return velocity, new, np.sum(new * new), np.tanh(velocity) @ new


def adam(x, y, z, rate):
    m = 0.9 * x + 0.1 * y
    v = 0.999 * z * z + 0.001 * (y * y)
    return m, v, y - rate * m / (np.sqrt(v) + 1e-8)


def adam_of_two_parameters(x, y, z, rate):
    first = adam(x, y, z, rate)
    return first, adam(y, z, first[2], rate * 0.5)


def read_before_and_behind_what_is_written_over_it(x, y, z, rate):
    a = np.tanh(x)
    b = a * y
    c = a - b
    d = c * a
    return d + b, np.exp(-(c * c)), a


def more_values_than_lines(x, y, z, rate):
    parts = [np.tanh(x * (k + 1.0)) for k in range(24)]
    total = parts[0]
    for part in parts[::-1]:
        total = total * 0.5 + part * y
    return total


def one_element_of_what_the_chain_makes(x, y, z, rate):
    a = np.exp(x)
    return a / a[:1], y * np.tanh(y)[-1:]


def another_part_of_what_the_chain_makes(x, y, z, rate):
    joined = tr.concatenate([np.tanh(x), np.exp(y)])
    half = x.shape[0] // 2
    return joined[half:-half] * 2.0, joined


def bytes_that_another_value_had(x, y, z, rate):
    """In the arena what is joined lies, shifted, where `turned` was, which is read shortly before."""
    n = 1 << 14
    wide = np.tanh(tr.concatenate([x[:n], y[: n // 2]]))
    turned = np.reshape(np.reshape(wide[:n], (128, 128)) @ np.reshape(y[:n], (128, 128)), (-1,))
    first = turned * z[:n]
    behind = np.reshape(np.tanh(z[:n]), (128, 128))
    joined = np.reshape(tr.concatenate([z[:n], z[: 3 * n // 4]]), (128, 224))
    return first, np.tanh(behind @ joined) @ np.ones(224, x.dtype)


def reversed_order(x, y, z, rate):
    a = np.tanh(x)
    return a[::-1] * y + a


def numbers_and_arrays_of_one_number(x, y, z, rate):
    return (2.0 - x) * rate / 3.0 + np.reshape(rate, (1,)) - y, np.maximum(z, rate), np.minimum(0.5, z) * rate


def results_twice(x, y, z, rate):
    a = x + y
    return a, a * 2.0, a, np.reshape(a, (2, -1)), -a


def choices_and_powers(x, y, z, rate):
    a = np.where(x > y, x, rate)
    b = np.where(a <= 0.1, 0.0, a**3)
    return a, b + y, np.where(b == 0, y, np.sqrt(b * b)) ** 2, b != a


def a_sum_in_between(x, y, z, rate):
    a = x * y
    norm = np.sqrt(np.sum(a * a))
    return a / norm, z * norm


CHAINS = [
    *(sgd, momentum, nesterov_and_its_norm, adam, adam_of_two_parameters, more_values_than_lines, reversed_order),
    *(read_before_and_behind_what_is_written_over_it, one_element_of_what_the_chain_makes, results_twice),
    *(bytes_that_another_value_had, another_part_of_what_the_chain_makes, choices_and_powers),
    *(numbers_and_arrays_of_one_number, a_sum_in_between),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("f", CHAINS)
def test_chains(f, threads, dtype):
    compiled = tr.compile(f, executor="native", threads=threads)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3):
        x, y, z = rng.standard_normal((3, SIZE)).astype(dtype)
        args = x, y, z, np.asarray(0.1, dtype)
        expected, made = map_leaves(array_of, f(*args)), compiled(*args)
        assert_equal(made, expected, 1e-12 if dtype == "float64" else 2e-5)
        kept.append((made, expected))
    assert_equal(*kept[0], 1e-12 if dtype == "float64" else 2e-5)


@settings(max_examples=examples(60))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "subtract", "multiply", "tanh", "negative", "turn", "part", "all", "one"]),
            st.integers(0, 7),
            st.integers(0, 7),
            st.booleans(),
        ),
        min_size=2,
        max_size=14,
    ),
    threads=st.integers(1, 3),
)
def test_drawn_programs_on_large_arrays(steps, threads):
    """Calls on large arrays in any order, with others between them; some values are results."""

    def f(x, y, small):
        values, results = [x, y], []
        for name, i, j, returned in steps:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            if name == "turn":
                made = np.reshape(np.transpose(np.reshape(a, (128, 128)) @ small, (1, 0)), (-1,))
            elif name == "part":
                made = np.reshape(a, (2, -1))[::-1] * 0.5
                made = np.reshape(made, (-1,))
            elif name == "all":
                made = tr.concatenate([a * 0.5, np.tanh(b)])[5000 : 5000 + (1 << 14)]
            elif name == "one":
                made = a - b[77]
            elif name in ("tanh", "negative"):
                made = getattr(np, name)(a)
            else:
                made = getattr(np, name)(a, b)
            made = np.tanh(made)
            values.append(made)
            if returned:
                results.append(made)
        return results, values[-1] * 2.0

    rng = np.random.default_rng(0)
    compiled = tr.compile(f, executor="native", threads=threads)
    for _ in range(2):
        args = [*rng.standard_normal((2, 1 << 14)), rng.standard_normal((128, 128)) / 12]
        assert_equal(compiled(*args), f(*args), 1e-11)
