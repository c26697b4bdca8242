"""The order of sums and products: what the user wrote keeps it, whatever the magnitudes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_replays, executors, leaf, normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, simplify_calls

f32 = np.float32


def both(f, *args, **options):
    """Return what f gives eagerly and under each executor, which must be the same bit for bit."""
    with np.errstate(all="ignore"):
        expected = f(*args)
        expected = expected.data if isinstance(expected, tr.Tensor) else expected
        for setting in executors():
            got = tr.compile(f, **setting, **options)(*args)
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(got, expected)
    return expected


# -- numbers --------------------------------------------------------------------------------------------------------

CHAINS = {
    "a product that would overflow": (lambda v: (v * 1e25) * 1e20, f32([1e-30, 2e-30]), f32([1e15, 2e15])),
    "one that would underflow": (lambda v: (v * 1e-25) * 1e-25, f32([1e20]), f32([1e-30])),
    "numbers in front": (lambda v: 1e25 * (1e20 * v), f32([1e-30]), f32([1e15])),
    "a sum of large numbers": (lambda v: (v + 1e38) + 3e38, f32([-3e38]), f32([1e38])),
    "small ones beside a large one": (lambda v: (v + 1e16) - 1e16 + 1.0, np.array([0.25]), np.array([1.0])),
    "one that wraps around": (lambda v: v + 200 + 100, np.array([1], np.uint8), np.array([45], np.uint8)),
    "a product that does": (lambda v: v * 100 * 100, np.array([1], np.int8), np.array([16], np.int8)),
    "truth values": (lambda v: (v + v) + v, np.array([True, False]), np.array([True, False])),
}


@pytest.mark.parametrize(("f", "v", "expected"), CHAINS.values(), ids=CHAINS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_are_not_put_together(f, v, expected):
    np.testing.assert_allclose(both(f, v), expected, rtol=1e-6)


# -- large terms that cancel ----------------------------------------------------------------------------------------


def test_what_cancels_leaves_the_rest():
    h, w, r = normal(1, 3) * 1e17, normal(3, 2), np.array([[1.25, -0.5]])
    np.testing.assert_array_equal(both(lambda h, r: (h @ w + -(h @ w)) + r, h, r), r)
    np.testing.assert_array_equal(both(lambda h, r, s: (h[:, :1] * s - h[:, :1] * s) + r, h, r, normal(1, 2)), r)


def test_a_bias_that_cancels_a_large_product():
    x, W, r = np.array([[1.1e17], [0.0]]), normal(1, 3), np.array([1.25, -0.5, 3.0])

    def f(x, W, r):
        return (x @ W + -(x[0] @ W)) + r

    np.testing.assert_array_equal(both(f, x, W, r)[0], r)
    compiled = tr.compile(f)  # BLAS may add up a product in any order, so the bias must stay outside of it
    compiled(x, W, r)
    assert [slot.shape for i in compiled.plan.instructions if i.operator.name == "matmul" for slot in i.inputs] == [
        (2, 1),
        (1, 3),
        (1,),
        (1, 3),
    ]


def test_products_of_steps_that_the_user_adds_up_stay_in_their_order():
    def f(*x):  # the first two terms cancel; the third would be lost beside either
        total = 0.0
        for t, sign in enumerate((1.0, -1.0, 1.0)):
            with tr.at_step(t):
                total = total + np.transpose(x[t]) @ np.tanh(x[t] * 0 + sign * 20)
        return total

    x = np.full((1, 1), 1e17), np.full((1, 1), 1e17), np.full((1, 1), 1.25)
    assert both(f, *x) == 1.25


def test_a_sum_that_both_the_user_and_the_engine_wrote_keeps_its_order():
    w = leaf(2, 2)

    def f(x, d):
        g = tr.grad(np.sum(x[0] @ w * d[0]) + np.sum(x[1] @ w * d[1]), w)
        return g, np.transpose(x[1]) @ d[1] + np.transpose(x[0]) @ d[0]

    recorded = record(f, normal(2, 3, 2), normal(2, 3, 2, seed=1))
    graph = merge_subexpressions(simplify_calls(recorded.graph))
    marks = [call.cotangent for call in graph.calls if call.name == "add" and call.output.shape == (2, 2)]
    assert marks.count(None) == 1


def test_only_the_engines_sums_are_marked():
    w = leaf(3)
    graph = record(lambda x: tr.grad(np.sum(w * x + np.tanh(w)), w) + w, normal(3)).graph
    adds = [call for call in graph.calls if call.name == "add"]
    assert [call.cotangent is None for call in adds] == [True, False, True]


def test_terms_of_two_cotangents_are_not_mixed():
    """The cotangent of y goes on to x unchanged, where another term is added: two sums, although a chain of three."""
    w, x = leaf(2, 2), leaf(3, 2, seed=1)

    def f(d):
        y = x + 1.0  # passes its cotangent on
        loss = sum(np.sum((y @ w) * d[t]) for t in range(2)) + np.sum((x @ w) * d[2])
        return tr.grad(loss, x)

    graph = record(f, normal(3, 3, 2)).graph
    marks = [call.cotangent for call in graph.calls if call.name == "add" and call.cotangent]
    assert len(marks) == 2
    assert len(set(marks)) == 2


def test_gradients_of_windows_are_one_product_for_each_window():
    cell = tr.RNNCell(2, 3, np.random.default_rng(0), np.float64)

    def f(xs):
        def step(xs, state):
            outputs, state = tr.unroll(cell, xs, state)
            return np.sum(outputs * outputs), state

        return tr.bptt(step, cell.parameters(), xs, cell.initial_state(2), tr.Chunked(2)).gradients

    compiled = assert_replays(f, (normal(2, 6, 2),))
    calls = [call for call, loop in compiled.plan.flat() if call.operator.name == "matmul" and loop is None]
    shapes = [tuple(slot.shape for slot in call.inputs) for call in calls]
    assert shapes.count(((2, 4), (4, 3))) == shapes.count(((3, 4), (4, 3))) == 3  # Wx, Wh: all steps of each window


# -- a law ----------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float64"]), size=st.integers(2, 12))
def test_elementwise_programs_are_the_same_bit_for_bit_whatever_the_magnitudes(seed, dtype, size):
    rng = np.random.default_rng(seed)
    exponent = 30 if dtype == "float32" else 250

    def number():
        return float(rng.standard_normal() * 10.0 ** rng.integers(-exponent, exponent))

    plan = [(rng.integers(4), *rng.random(2), rng.random() < 0.3, number(), rng.integers(3)) for _ in range(size)]
    args = [np.asarray([number() for _ in range(3)], dtype) for _ in range(3)]
    leaves = [tr.tensor(array, requires_grad=True) for array in args]
    seeds = np.asarray([number() for _ in range(3)], dtype)

    def program(*known):
        known = list(known)
        for kind, left, right, with_number, value, step in plan:
            a, b = known[int(left * len(known))], value if with_number else known[int(right * len(known))]
            with tr.at_step(int(step)):
                known.append([a + b, a * b, a - b, b + a][kind])
        return known[-1]

    def f(*args):
        y = program(*args)
        if not y.requires_grad:
            return y
        return tr.stack([y, *tr.grad(y, list(args), cotangent=seeds, allow_unused=True, create_graph=True)])

    both(f, *leaves)
