"""Gradients of lookups as rows and values: bit by bit what the dense form computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_equal, assert_replays, counts, executors, leaf, need_library, normal, replay_call, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.rows import sparse_updates
from tinygrad_rnn.compiler.passes.simplify import remove_dead_code
from tinygrad_rnn.compiler.replay.kernels import EQUAL_ROWS, SUBTRACT_ROWS
from tinygrad_rnn.training.loop.objective import language_loss

V, D = 40, 3
IDS = np.array([[1, 5, 1], [-40, 0, 39]])
SCALED = {
    "number": lambda w, g, s: w - 0.3 * g,
    "number last": lambda w, g, s: w - g * 0.3,
    "whole number": lambda w, g, s: w - 2 * g,
    "value": lambda w, g, s: w - s * g,
    "nothing": lambda w, g, s: w - g,
    "several": lambda w, g, s: w - 1.1 * ((s * g) * 0.7),
    "below 0": lambda w, g, s: w - -0.3 * g,
}


def updated(scaled):
    def f(w, x, s, ids):
        return scaled(w, tr.grad(np.sum(tr.take(w, ids, axis=0) * x), w), s)

    return f


def arguments(ids, dtype="float64", seed=0, length=V, width=D):
    rng = np.random.default_rng(seed)
    w = tr.tensor(rng.standard_normal((length, width)).astype(dtype), requires_grad=True)
    return w, rng.standard_normal((*ids.shape, width)).astype(dtype), np.asarray(0.7, dtype), ids


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple) | st.just(())


@given(
    shape=shapes,
    names=st.integers(1, 40),
    scaled=st.sampled_from(sorted(SCALED)),
    dtype=st.sampled_from(["float64", "float32", "float16"]),
    setting=st.sampled_from(executors()),
    width=st.sampled_from([1, 3, 40]),
    seed=st.integers(0, 2**32 - 1),
    donate=st.sampled_from([(), ("w",)]),
)
def test_an_update_of_rows_is_the_dense_one_bit_by_bit(shape, names, scaled, dtype, setting, width, seed, donate):
    length = max(1, 2 * int(np.prod(shape)))
    rng = np.random.default_rng(seed)
    ids = rng.integers(-length, length, min(names, length))[rng.integers(0, min(names, length), shape)]
    f, ids = updated(SCALED[scaled]), np.asarray(ids)
    args = arguments(ids, dtype, seed, length, width)
    sparse, dense = tr.compile(f, donate=donate, **setting), tr.compile(f, without=["sparse_updates"], **setting)
    before = args[0].data.copy()
    for _ in range(2):
        assert same_bits(sparse(*args), dense(*args))
    assert same_bits(args[0].data, before)
    assert any(one.operator.name == "subtract_rows" for one, _ in sparse.plan.flat())


@pytest.mark.parametrize("scaled", SCALED)
def test_what_is_recognized(scaled):
    graph = rewritten(updated(SCALED[scaled]), arguments(IDS), sparse_updates, remove_dead_code)
    assert counts(graph)["subtract_rows"] == counts(graph)["equal_rows"] == 1
    assert counts(graph)["take_back"] == 0


def also_returned(w, g, s):
    return w - 0.3 * g, g


def product_returned(w, g, s):
    step = 0.3 * g
    return w - step, step


def product_read(w, g, s):
    step = 0.3 * g
    return w - step, np.sum(step)


DENSE = {
    "read elsewhere": lambda w, g, s: (w - 0.3 * g, np.sum(g * g)),
    "returned": also_returned,
    "step returned": product_returned,
    "step read elsewhere": product_read,
    "weight decay": lambda w, g, s: w - 0.3 * (g + 0.1 * w),
    "the other way round": lambda w, g, s: 0.3 * g - w,
    "from itself": lambda w, g, s: g - g,
    "times an array": lambda w, g, s: w - w * g,
    "times a row": lambda w, g, s: w - normal(D) * g,
    "in another dtype": lambda w, g, s: w - np.asarray(0.3, np.float64) * tr.astype(g, np.float64),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaled", DENSE)
def test_what_stays_dense(scaled, dtype):
    f, args = updated(DENSE[scaled]), arguments(IDS, dtype)
    graph = rewritten(f, args, sparse_updates)
    if scaled != "in another dtype" or dtype == "float32":
        assert counts(graph)["subtract_rows"] == 0
    assert_replays(f, args, tolerance=1e-12 if dtype == "float64" else 2e-5)


def test_updates_of_most_of_a_table_stay_dense():
    for count, expected in ((V // 2, 1), (V // 2 + 1, 0)):
        graph = rewritten(updated(SCALED["number"]), arguments(np.zeros(count, int)), sparse_updates)
        assert counts(graph)["subtract_rows"] == expected


def test_lookups_along_another_axis_stay_dense():
    def f(w, x):
        return w - 0.3 * tr.grad(np.sum(tr.take(w, np.array([1, 0]), axis=1) * x), w)

    args = leaf(V, D), normal(V, 2)
    assert counts(rewritten(f, args, sparse_updates))["subtract_rows"] == 0
    assert_replays(f, args)


@pytest.mark.parametrize("setting", executors())
def test_minus_zero_nan_and_infinity_of_the_table_stay_as_they_are(setting):
    w, x, s, ids = arguments(IDS)
    table = np.tile([-0.0, np.nan, np.inf], (V, 1))
    w = tr.tensor(table, requires_grad=True)
    with np.errstate(invalid="ignore"):
        for scaled, number in (("value", s), ("value", -s), ("value", np.asarray(np.inf))):
            made = tr.compile(updated(SCALED[scaled]), **setting)(w, x, number, ids)
            others = np.setdiff1d(np.arange(V), ids % V)
            assert same_bits(made[others], table[others])


@pytest.mark.parametrize("setting", executors())
@pytest.mark.parametrize("wrong", [V, -V - 1, 10**12, -(2**63)])
def test_ids_out_of_range(wrong, setting):
    f = tr.compile(updated(SCALED["value"]), **setting)  # nobody takes: the sum of w[ids] * x is not wanted
    w, x, s, ids = arguments(IDS)
    f(w, x, s, ids)
    bad = ids.copy()
    bad[1, 1] = wrong
    with pytest.raises(IndexError, match=f"out of range for axis 0 with size {V}"):
        f(w, x, s, bad)
    assert same_bits(
        f(w, x, s, ids), tr.compile(updated(SCALED["value"]), without=["sparse_updates"], **setting)(w, x, s, ids)
    )


@given(
    count=st.integers(1, 70),
    names=st.integers(1, 9),
    width=st.sampled_from([1, 16, 33, 130]),
    dtype=st.sampled_from(["float64", "float32"]),
    workers=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_library_adds_rows_where_their_ids_stand_first(count, names, width, dtype, workers, seed):
    need_library()
    rng = np.random.default_rng(seed)
    length = 100
    ids = rng.integers(-length, length, names)[rng.integers(0, names, count)]
    gradient = rng.integers(-9, 9, (count, width)).astype(dtype)  # sums are exact in any order
    rows, places = np.full((count, width), np.nan, dtype), np.full(count, 7)
    replay_call(EQUAL_ROWS, [gradient], [rows, places], workers, indices=ids, length=length)
    expected = EQUAL_ROWS.compute(gradient, indices=ids, length=length)
    assert np.array_equal(rows, expected[0])
    assert np.array_equal(places, expected[1])
    dense = np.zeros((length, width), dtype)
    np.add.at(dense, ids, gradient)
    table = rng.integers(-9, 9, (length, width)).astype(dtype)
    made = np.full((length, width), np.nan, dtype)
    replay_call(SUBTRACT_ROWS, [table, rows, places], [made], workers)
    assert np.array_equal(made, table - dense)
    replay_call(SUBTRACT_ROWS, [table, rows, places], [table], workers)
    assert np.array_equal(made, table)


@pytest.mark.parametrize("setting", executors())
def test_other_lengths_and_the_second_derivative(setting):
    def f(w, x, ids):
        first = tr.grad(np.sum(tr.take(w, ids, axis=0) ** 2 * x), w, create_graph=True)
        second = tr.grad(np.sum(first * first), w)
        return w - 0.1 * second

    step = tr.compile(f, **setting)
    for T in (3, 5, 4, 9, 12, 30):
        ids = np.random.default_rng(T).integers(-V, V, (1, T))
        args = leaf(V, D), normal(1, T, D), ids
        assert_equal(step(*args), f(*args), 1e-12)


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_a_clipped_training_step_keeps_rows(clip):
    """Lengths of gradients are measured of the rows: the zeros around them add nothing."""
    models = [tr.RNNLM(V, 4, 5, np.random.default_rng(0)) for _ in range(2)]
    steps = [tr.TrainStep(model, language_loss, tr.SGD(lr=0.5), clip=clip) for model in models]
    steps[1]._fused = tr.compile(steps[1]._whole, without=["sparse_updates"])
    states = [model.initial_state(2) for model in models]
    for seed in range(4):
        ids = np.random.default_rng(seed).integers(0, V, (2, 6))
        found = []
        for number, step in enumerate(steps):
            result = step((ids[:, :-1], ids[:, 1:]), states[number])
            states[number] = result.state
            found.append((result.loss, result.gradient_norm))
        assert np.allclose(*found, rtol=1e-6)
    names = [{one.operator.name for one, _ in step.compiled.plan.flat()} for step in steps]
    assert ["subtract_rows" in part for part in names] == [True, False]
    for one, other in zip(*(model.parameters().values() for model in models), strict=True):
        assert np.allclose(one.data, other.data, rtol=2e-5, atol=1e-6)
