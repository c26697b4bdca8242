"""Donated arguments: results are made where they lie, and nothing else of anybody's changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_equal, executors, leaf, normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.build import available
from tinygrad_rnn.compiler.plans.layout import make_plan
from tinygrad_rnn.compiler.replay.executor import Executor
from tinygrad_rnn.engine.tensor import adopt
from tinygrad_rnn.errors import ConfigError

SHAPE, SMALL = (80, 60), (3, 2)  # float64: a block of its own, and a copy at each call
NATIVE = [False, *([True] if available() else [])]
settings = pytest.mark.parametrize("setting", executors())
sizes = pytest.mark.parametrize("shape", [SHAPE, SMALL], ids=["large", "small"])


def sgd(p, g):
    return p - 0.5 * g


def written_over(plan):
    """Return (number of a result, number of the input that it is written over)."""
    inputs = {id(slot.buffer): number for number, slot in enumerate(plan.inputs)}
    return [(n, inputs[id(slot.buffer)]) for n, slot in enumerate(plan.outputs) if id(slot.buffer) in inputs]


def plan_of(f, *args, donated):
    return make_plan(record(f, *args).graph, donated)


# -- what is written over ----------------------------------------------------------------------------------------------


P, Q, G = normal(*SHAPE), normal(*SHAPE, seed=1), normal(*SHAPE, seed=2)


def adam(p, m, v, g):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * (g * g)
    return p - 0.1 * m / (np.sqrt(v) + 1e-8), m, v


CASES = {
    "sgd": (lambda p, q, g: p - 0.5 * g, [(0, 0)]),
    "added": (lambda p, q, g: 0.5 * g + p, [(0, 0)]),
    "both": (lambda p, q, g: (p - 0.5 * g, q + g), [(0, 0), (1, 1)]),
    "read before": (lambda p, q, g: (p - 0.5 * g, p @ g.T, np.sum(p, axis=0)), [(0, 0)]),
    "through what only it needs": (lambda p, q, g: 0.9 * p + 0.1 * g, [(0, 0)]),
    "the nearer one": (lambda p, q, g: 0.9 * q - p, [(0, 0)]),
    "squared": (lambda p, q, g: p * p, [(0, 0)]),
    "returned too": (lambda p, q, g: (p - 0.5 * g, p), []),
    "a view returned too": (lambda p, q, g: (p - 0.5 * g, p[2:]), []),
    "turned": (lambda p, q, g: p @ g.T - (p @ g.T).T, []),
    "from another place of itself": (lambda p, q, g: p - p[::-1], []),
    "from what was made of it": (lambda p, q, g: p - np.exp(p)[::-1], [(0, 0)]),
    "read by the other's update": (lambda p, q, g: (p - q, q - p), [(0, 0)]),
    "the result is read": (lambda p, q, g: (lambda new: (new, new @ g.T))(p - g), []),
    "twice": (lambda p, q, g: (lambda new: (new, new))(p - g), [(0, 0)]),
    "a row": (lambda p, q, g: p - g[0], [(0, 0)]),
    "not elementwise": (lambda p, q, g: p @ normal(60, 60), []),
    "another shape": (lambda p, q, g: np.sum(p, axis=0) - g[0], []),
    "another dtype": (lambda p, q, g: tr.astype(p, np.float32) - 1, []),
}


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("case", CASES)
def test_what_is_written_over(case, native):
    f, expected = CASES[case]
    plan = plan_of(f, P, Q, G, donated=[0, 1])
    if case == "read by the other's update":  # one of them, whichever
        assert len(written_over(plan)) == 1
    else:
        assert written_over(plan) == expected
    executor = Executor(plan, native=native)
    given = [P.copy(), Q.copy(), G.copy()]
    want = f(*given)
    for _ in range(3):
        found = executor.run(given)
        for got, part in zip(found, want if isinstance(want, tuple) else (want,), strict=True):
            np.testing.assert_allclose(got, part, rtol=1e-12, atol=1e-12)
        assert all(map(np.array_equal, given, (P, Q, G)))


def test_updates_come_last():
    """What can fail (here a product, a check) is done before the first of them."""
    plan = plan_of(lambda p, q, g: (p - 0.5 * g, np.sum(g @ q.T), q - np.sum(g)), P, Q, G, donated=[0, 1])
    assert written_over(plan) == [(0, 0), (2, 1)]
    names = [one.operator.name for one in plan.instructions]
    assert {"matmul", "sum"}.isdisjoint(names[plan.last :])
    assert names[plan.last :].count("subtract") == 2


@settings
@sizes
def test_moments_of_adam_too(shape, setting):
    step, plain = tr.compile(adam, donate=("p", 1, "v"), **setting), tr.compile(adam, **setting)
    mine = theirs = (normal(*shape), np.zeros(shape), np.zeros(shape))
    for seed in range(4):
        mine, theirs = (f(*part, normal(*shape, seed=seed)) for f, part in ((step, mine), (plain, theirs)))
        assert [part.tobytes() for part in mine] == [part.tobytes() for part in theirs]
    assert written_over(step.plan) == [(0, 0), (1, 1), (2, 2)]
    assert written_over(plain.plan) == []


# -- what callers see --------------------------------------------------------------------------------------------------


@settings
@sizes
def test_arrays_of_the_callers_are_never_written_to(shape, setting):
    step = tr.compile(sgd, donate=["p"], **setting)
    p, g = normal(*shape), normal(*shape, seed=1)
    before = p.copy()
    for _ in range(3):
        assert np.array_equal(step(p, g), before - 0.5 * g)
        assert np.array_equal(p, before)


@settings
def test_an_earlier_result_shows_the_new_value(setting):
    step = tr.compile(sgd, donate=["p"], **setting)
    g = normal(*SHAPE, seed=1)
    first = step(normal(*SHAPE), g)
    second = step(first, g)
    assert np.shares_memory(first, second)
    assert np.array_equal(first, second)
    np.testing.assert_allclose(second, normal(*SHAPE) - g, rtol=1e-12, atol=1e-12)


@settings
def test_results_that_are_not_given_back_never_change(setting):
    step = tr.compile(sgd, donate=["p"], **setting)
    p, g = normal(*SHAPE), normal(*SHAPE, seed=1)
    kept = [step(p, seed * g) for seed in range(5)]
    for seed, array in enumerate(kept):
        assert np.array_equal(array, sgd(p, seed * g))
    view = step(p, g)[3:5]
    step(p, 7 * g)
    assert np.array_equal(view, sgd(p, g)[3:5])


@settings
@sizes
def test_the_same_array_in_two_places(shape, setting):
    step = tr.compile(lambda p, q, g: (p - 0.5 * g, q + 0.25 * g, q @ g.T), donate=["p", "q"], **setting)
    other = tr.compile(lambda p, q, g: (p - 0.5 * g, q + 0.25 * g, q @ g.T), donate=["p"], **setting)
    g = normal(*shape, seed=1)
    for f in (step, other):
        p = normal(*shape)
        for seed in range(4):
            expected = p - 0.5 * g, p + 0.25 * g, p @ g.T
            found = f(p, p, g)
            assert_equal(found, expected, 1e-12)
            p = found[seed % 2]


@settings
def test_the_same_array_read_by_a_later_update(setting):
    """What is not donated is read as it was, though it is the array that has been written over by then."""
    step = tr.compile(lambda p, r, q, g: (p - g, r - q[::-1]), donate=["p", "r"], **setting)
    p, r, g = normal(*SHAPE), normal(*SHAPE, seed=1), normal(*SHAPE, seed=2)
    for _ in range(3):
        expected = p - g, r - p[::-1]
        p, r = step(p, r, p, g)
        assert_equal((p, r), expected, 1e-12)
    assert written_over(step.plan) == [(0, 0), (1, 1)]


@settings
def test_other_results_are_copied_when_they_are_donated(setting):
    step = tr.compile(lambda p, g: (p - 0.5 * g, np.tanh(g)), donate=["p"], **setting)
    g = normal(*SHAPE, seed=1)
    _, other = step(normal(*SHAPE), g)
    new, _ = step(other, g)
    assert np.array_equal(new, other - 0.5 * g)
    assert_equal(other, np.tanh(g), 1e-12)


@settings
def test_a_view_of_a_donated_result_is_read_before_it_is_written_over(setting):
    step = tr.compile(lambda p, q: (p - 0.5 * q, np.sum(q)), donate=["p"], **setting)
    p, _ = step(normal(*SHAPE), normal(*SHAPE, seed=1))
    turned = p[::-1]
    expected = p - 0.5 * turned, np.sum(turned)
    assert_equal(step(p, turned), expected, 1e-12)


@settings
def test_parameters_that_are_adopted(setting):
    """As the benchmarks train: two steps that share a model, one that donates and one that does not."""
    w, x = leaf(*SHAPE), normal(4, SHAPE[0], seed=1)

    def train(w, x):
        return w - 0.1 * tr.grad(np.sum(np.tanh(x @ w)), w)

    step, plain, expected = tr.compile(train, donate=["w"], **setting), tr.compile(train, **setting), leaf(*SHAPE)
    for number in range(8):
        adopt(w, (step if number % 4 else plain)(w, x))
        adopt(expected, plain(expected, x))
        assert np.array_equal(w.data, expected.data)


@given(data=st.data(), setting=st.sampled_from(executors()), shape=st.sampled_from([SHAPE, SMALL]))
def test_any_history_of_calls(data, setting, shape):
    """Results are given back or not, kept or not, as they are or as views: what was not given back does not change."""
    step = tr.compile(lambda p, q, g: (p - 0.5 * g, q * 0.5 + g, p + q), donate=["p", "q"], **setting)
    own = [normal(*shape, seed=seed) for seed in range(2)]
    known = [(array, array.copy()) for array in own]
    for seed in range(data.draw(st.integers(1, 6))):
        choice = st.integers(0, len(known) - 1)
        first, second = data.draw(choice), data.draw(choice)
        (p, was_p), (q, was_q) = known[first], known[second]
        g = normal(*shape, seed=seed)
        expected = was_p - 0.5 * g, was_q * 0.5 + g, was_p + was_q
        found = step(p, q, g)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        gone = [array for array in (p, q) if any(np.shares_memory(array, new) for new in found)]
        known = [(array, was) for array, was in known if not any(np.shares_memory(array, old) for old in gone)]
        assert len(gone) == 0 or shape == SHAPE
        keep = data.draw(st.integers(0, 7))
        known += [(array, np.array(array)) for n, array in enumerate(found) if keep & 1 << n]
        del p, q, found, gone
        for array, was in known:
            assert np.array_equal(array, was)
        known = known or [(own[0], own[0].copy())]


# -- errors ------------------------------------------------------------------------------------------------------------


@settings
@pytest.mark.parametrize("place", ["first", "last"])
def test_ids_out_of_range_leave_donated_arrays_as_they_were(place, setting):
    """Other parameters too, wherever the lookup stands in the function."""

    def train(W, U, x, ids):
        early = 0.5 * U if place == "last" else None
        rows = tr.take(W, ids, axis=0)
        loss = np.sum(np.tanh(rows @ U) * x)
        dW, dU = tr.grad(loss, [W, U])
        return loss, W - 0.1 * dW, (U if early is None else early + early) - 0.1 * dU

    step = tr.compile(train, donate=["W", "U"], **setting)
    W, U, x = leaf(200, 60), leaf(60, 50, seed=1), normal(2, 3, 50)
    ids = np.array([[0, 1, 2], [1, -1, 5]])
    for _ in range(2):
        _, new_W, new_U = step(W, U, x, ids)
        adopt(W, new_W), adopt(U, new_U)
    assert [number for number, _ in written_over(step.plan)] == [1, 2]
    before = W.data.copy(), U.data.copy()
    for wrong in (200, -201):
        with pytest.raises(IndexError, match="200"):
            step(W, U, x, np.where(ids == 5, wrong, ids))
        assert np.array_equal(W.data, before[0])
        assert np.array_equal(U.data, before[1])
    expected = train(W, U, x, ids)
    assert_equal(step(W, U, x, ids), tuple(part.data for part in expected), 1e-12)


@settings
def test_an_error_before_the_updates_leaves_donated_arrays_as_they_were(setting):
    def train(p, q, g):
        new = p - 0.5 * g  # written down first, done last
        return new, q - np.sum(tr.clip_by_norm({"g": g}, 1.0)[1])

    step = tr.compile(train, donate=["p", "q"], **setting)
    g = normal(*SHAPE, seed=2)
    p, q = step(normal(*SHAPE), normal(*SHAPE, seed=1), g)
    before = p.copy(), q.copy()
    with pytest.raises(tr.NonFiniteError), np.errstate(all="ignore"):
        step(p, q, np.full(SHAPE, np.nan))
    assert np.array_equal(p, before[0])
    assert np.array_equal(q, before[1])
    assert_equal(step(p, q, g), train(*before, g), 1e-12)


def test_an_error_among_the_updates_leaves_those_before_it_done():
    """NumPy's updates are done one by one: here the second one overflows, and the caller asked for an error then."""
    step = tr.compile(lambda p, q, g: (p - g, q * g), donate=["p", "q"], executor="numpy")
    p, q = step(normal(*SHAPE), np.ones(SHAPE), np.ones(SHAPE))
    before = p.copy(), q.copy()
    with pytest.raises(FloatingPointError), np.errstate(over="raise"):
        step(p, np.full(SHAPE, 1e300), np.full(SHAPE, 1e300))
    assert np.array_equal(p, before[0] - 1e300)
    assert np.array_equal(q, before[1])


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", NATIVE)
def test_one_set_of_parameters_less(native):
    def after_steps(donated):
        executor = Executor(plan_of(lambda p, q, g: (p - 0.5 * g, q + g), P, Q, G, donated=donated), native=native)
        p, q = P, Q
        for _ in range(5):
            p, q = executor.run([p, q, G])
        return executor.nbytes

    assert after_steps([]) - after_steps([0, 1]) >= 2 * P.nbytes


@settings
def test_blocks_serve_again_when_nobody_holds_what_was_in_them(setting):
    step = tr.compile(sgd, donate=["p"], **setting)
    p, g = normal(*SHAPE), normal(*SHAPE, seed=1)
    step(p, g)
    (ready,) = step._plans.values()
    held = ready.executor.nbytes
    for _ in range(5):
        step(p, g)  # a new array of the caller's each time, as far as the executor knows
    assert ready.executor.nbytes == held


@settings
def test_other_lengths_share_what_is_donated(setting):
    def train(w, x):
        return w - 0.1 * tr.grad(np.sum(np.tanh(x @ w)), w)

    step, expected = tr.compile(train, donate=["w"], **setting), leaf(*SHAPE)
    w = leaf(*SHAPE)
    blocks = set()
    for T in (3, 5, 4, 9, 3, 12):
        x = normal(T, SHAPE[0], seed=T)
        adopt(w, step(w, x))
        adopt(expected, train(expected, x).data)
        assert_equal(w.data, expected.data, 1e-12)
        assert written_over(step.plan) == [(0, 0)]
        assert step.plan.last is not None
        blocks.add(w.data.__array_interface__["data"][0])
    assert len(blocks) == 1


# -- what is donated ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("donate", [["params"], "params", [0], 0, ["params", 0]])
@pytest.mark.parametrize("by_name", [False, True])
def test_nestings_by_name_or_position(by_name, donate):
    def f(params, g):
        return {name: [p - g for p in part] for name, part in params.items()}

    step = tr.compile(f, donate=donate)
    params = {"a": [P, Q], "b": [normal(*SHAPE, seed=5)]}
    step(g=G, params=params) if by_name else step(params, G)
    assert len(written_over(step.plan)) == 3


def test_the_same_form_with_other_arguments_donated():
    """Arguments in another order: lengths of the one are no lengths of the other."""
    step = tr.compile(lambda **parts: {name: part - 1.0 for name, part in parts.items()}, donate=["z"])
    for n in (50, 60, 70):
        step(y=normal(n, 60), z=normal(n, 60))
        assert written_over(step.plan) == [(1, 1)]
    step(z=normal(80, 60), y=normal(80, 60))
    assert written_over(step.plan) == [(0, 0)]


def test_more_positions_and_other_names():
    step = tr.compile(lambda *parts, **others: (parts[1] - 1.0, others["z"] - 1.0), donate=[1, "z"])
    step(P, Q, z=G)
    assert written_over(step.plan) == [(0, 1), (1, 2)]
    assert step.donate == {1, "z"}


def test_numbers_generators_and_unused_arrays_are_left_alone():
    step = tr.compile(lambda a, rng, p, q: (p - a, rng), donate=["a", "rng", "q"])
    step(2.0, np.random.default_rng(0), P, Q)
    assert written_over(step.plan) == []


@pytest.mark.parametrize("donate", [["w"], ["p", "w"], [2], [-1], [True], [1.5], [None], "w", "ps", 2, True, 1.5, None])
def test_arguments_that_there_are_not(donate):
    with pytest.raises(ConfigError, match="compile: donate"):
        tr.compile(sgd, donate=donate)
