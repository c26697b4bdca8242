"""Replays: results are the caller's, nothing is left over from one to the next, and each call reads what is new."""

import collections
import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_equal, assert_replays, leaf, normal

import tinygrad_rnn as tr

WIDE = (70, 60)  # an array above the size from which results are handed out without a copy


def model_step(**options):
    model = tr.RNNLM(7, 3, 4, np.random.default_rng(0), dtype=np.float64, **options)

    def step(ids, targets, state=None, rng=None):
        loss, state = model.loss(ids, targets, state, rng=rng)
        return loss, tr.grad(loss, model.parameters()), state

    return model, step


def windows(count, N=2, T=5):
    rng = np.random.default_rng(3)
    return [tuple(rng.integers(0, 7, (2, N, T))) for _ in range(count)]


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), WIDE], ids=["small", "wide"])
def test_results_that_are_kept_never_change(shape):
    step = tr.compile(lambda x: (x * 2.0, np.sum(x)))
    kept = [(n, *step(np.full(shape, float(n)))) for n in range(10)]
    for n, doubled, total in kept:
        assert (doubled == 2 * n).all()
        assert total == n * doubled.size


@pytest.mark.parametrize("shape", [(4, 3), WIDE], ids=["small", "wide"])
def test_a_view_of_a_result_that_is_kept_never_changes(shape):
    step = tr.compile(lambda x: x * 2.0)
    kept = [(n, step(np.full(shape, float(n)))[1:, ::2].T) for n in range(10)]
    assert all((view == 2 * n).all() for n, view in kept)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=14), st.integers(0, 99))
def test_results_fed_back_kept_and_dropped_in_any_order(actions, seed):
    """Two arrays go round: each call takes any two arrays seen before, and each result may be kept or dropped."""
    step = tr.compile(lambda a, b: (b + 1.0, a * 0.5, np.sum(a)))
    pool = [normal(*WIDE, seed=seed), normal(*WIDE, seed=seed + 1)]
    for number, (choice, keep) in enumerate(actions):
        a, b = pool[-1 - choice % len(pool)], pool[number % len(pool)]
        copies = [array.copy() for array in pool]
        first, second, total = step(a, b)
        assert all(np.array_equal(array, copied) for array, copied in zip(pool, copies, strict=True))
        assert np.array_equal(first, b + 1)
        assert np.array_equal(second, a * 0.5)
        assert abs(total - np.sum(a)) <= 1e-10
        pool = [*(pool if keep else pool[-1:]), first, second]


@pytest.mark.parametrize("shape", [(4, 3), WIDE], ids=["small", "wide"])
def test_results_are_writable_and_share_memory_with_nothing(shape):
    w = leaf(*shape)

    def f(x):
        y = w * x
        return x, w, y, y, y[1:], y.T, w.T, np.zeros(3)

    x = normal(*shape)
    step = tr.compile(f)
    results = step(x)
    for number, one in enumerate(results):
        assert one.flags.writeable
        assert not any(np.shares_memory(one, other) for other in (*results[number + 1 :], x, w.data))
    for one in results:
        one[...] = 7
    assert_equal(step(x), f(x), 1e-15)


def test_a_result_changed_by_the_caller_is_read_as_it_is_now():
    step = tr.compile(lambda x: (x * 2.0, x + 1.0))
    x, y = step(normal(*WIDE))
    x += 1
    y *= 3
    assert np.array_equal(step(x)[0], x * 2)
    assert np.array_equal(step(y)[1], y + 1)


def test_parts_of_results_fed_back():
    step = tr.compile(lambda x: x * 2.0)
    square = normal(80, 80)
    for view in (lambda y: y, lambda y: y.T, lambda y: y[::-1], lambda y: y[:, ::-1], lambda y: y.view()):
        argument = view(step(square))
        assert np.array_equal(step(argument), argument * 2)


def test_memory_of_results_is_used_again_once_nobody_holds_them():
    step = tr.compile(lambda x: x * 2.0)
    x, places = normal(*WIDE), set()
    for _ in range(10):
        places.add(step(x).__array_interface__["data"][0])
    assert len(places) <= 2


def test_nested_results_and_what_is_no_array():
    State = collections.namedtuple("State", "h c")
    step = tr.compile(lambda x, s: {"state": State(s.h + x, None), "list": [x, (), "text", 3], "none": None})
    x = normal(3)
    for _ in range(2):
        result = step(x, State(x, None))
        assert isinstance(result["state"], State)
        assert np.array_equal(result["state"].h, 2 * x)
        assert result["list"][1:] == [(), "text", 3]
        assert result["none"] is None
        result["list"].append("mine")


def test_a_generator_that_is_returned_is_the_one_of_the_call():
    step = tr.compile(lambda x, rng: (x, rng))
    one, two = np.random.default_rng(1), np.random.default_rng(2)
    assert step(normal(2), one)[1] is one
    assert step(normal(2), two)[1] is two


# -- nothing is left over ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((np.full((2, 5), 7), np.zeros((2, 5), int)), "ids must lie in"),
        ((np.full((2, 5), -1), np.zeros((2, 5), int)), "ids must lie in"),
        ((np.zeros((2, 5), int), np.full((2, 5), 9)), "target 9 is outside"),
        ((np.zeros((2, 5), int), np.full((2, 5), -1)), "all 10 positions are masked"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["recording", "replay"])
def test_an_error_is_raised_as_eagerly_and_the_next_replay_is_right(bad, message, first):
    _, f = model_step(dropout=0.3)
    step = tr.compile(f)
    mine, theirs = np.random.default_rng(0), np.random.default_rng(0)
    good = windows(3)
    for window in [bad, *good] if first else [good[0], bad, *good[1:]]:
        if window is not bad:
            assert_equal(step(*window, None, theirs), f(*window, None, mine), 1e-12)
            continue
        with pytest.raises((IndexError, tr.ShapeError), match=message) as eagerly:
            f(*window, None, mine)
        with pytest.raises(type(eagerly.value), match=message):
            step(*window, None, theirs)
        theirs.bit_generator.state = mine.bit_generator.state


def test_an_index_out_of_range_is_raised_as_eagerly():
    step = tr.compile(lambda x, i: (tr.take(x, i, axis=0), x[i]))
    x = normal(4, 2)
    step(x, np.array([0, 3]))
    with pytest.raises(IndexError):
        step(x, np.array([0, 4]))
    assert np.array_equal(step(x, np.array([1, -1]))[1], x[[1, -1]])


def test_a_function_whose_result_changes_its_shape_is_an_error_at_the_replay():
    @tr.primitive()
    def positive(x, /):
        return x[x > 0]

    step = tr.compile(positive)
    x = tr.tensor([1.0, -1.0, 2.0])
    assert np.array_equal(step(x), [1, 2])
    for values in ([1.0, 2.0, 3.0], [-1.0, 2.0, -3.0]):
        with pytest.raises(tr.TraceError, match="its shape depends on values"):
            step(tr.tensor(values))
    assert np.array_equal(step(tr.tensor([-1.0, 5.0, 6.0])), [5, 6])


def test_an_error_while_recording_leaves_no_plan_and_no_draws():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state

    def f(x, rng, read):
        y = tr.Dropout(0.5)(x, rng)
        return float(np.sum(y)) if read else y

    step = tr.compile(f)
    with pytest.raises(tr.TraceError):
        step(normal(3), rng, True)
    assert rng.bit_generator.state == before
    assert step.plans == []
    with pytest.raises(tr.TraceError, match="has not been called yet"):
        _ = step.plan
    assert_equal(step(normal(3), rng, False), f(normal(3), np.random.default_rng(0), False), 0)


def test_non_finite_values_do_not_stay():
    model, f = model_step(cell="lstm")
    step, (window,) = tr.compile(f), windows(1)
    fresh = model.initial_state(2)
    expected = f(*window, fresh)
    with np.errstate(all="ignore"):
        loss, _, _ = step(*window, tr.engine.tree.map_leaves(lambda part: np.full(part.shape, np.nan), fresh))
    assert np.isnan(loss)
    assert_equal(step(*window, fresh), expected, 1e-12)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters_are_read_anew_at_each_call():
    model, f = model_step(cell="lstm", layers=2)
    step = tr.compile(f)
    for number, window in enumerate(windows(4)):
        expected = f(*window)
        assert_equal(step(*window), expected, 1e-12)
        for name, p in model.parameters().items():
            p.data = p.data - 0.1 * (number + 1) * expected[1][name]
    assert len(step.plans) == 1


def test_a_tensor_without_gradient_from_outside_is_read_anew_too():
    scale = tr.tensor([2.0, 2.0])
    step = tr.compile(lambda x: x * scale)
    assert np.array_equal(step(np.ones(2)), [2, 2])
    scale.data = [3.0, 4.0]
    assert np.array_equal(step(np.ones(2)), [3, 4])


def test_the_same_parameter_as_argument_and_from_outside():
    a, b = leaf(3), leaf(3, seed=1)

    def f(x, y):
        total = np.sum(x * a + y * y)
        return total, tr.grad(total, [x, y, a], allow_unused=True)

    assert_replays(f, (a, b), (b, b), (b, a), (a, a), (a, b))


def test_parameters_passed_as_arguments_may_be_other_ones():
    f = tr.compile(lambda params, x: tr.grad(np.sum(np.tanh(params["w"] * x)), params))
    for seed in range(3):
        w, x = leaf(3, seed=seed), normal(3, seed=9)
        np.testing.assert_allclose(f({"w": w}, x)["w"], x * (1 - np.tanh(w.data * x) ** 2), rtol=1e-13)


def test_an_old_graph_keeps_the_values_it_was_recorded_with():
    w = leaf(*WIDE)
    step = tr.compile(lambda w: w * 2.0)
    loss = np.sum(w * w)
    before = w.data.copy()
    for _ in range(5):
        w.data = step(w)
    np.testing.assert_array_equal(tr.grad(loss, w), 2 * before)


def test_a_compiled_function_that_is_dropped_is_freed(no_collector):
    step = tr.compile(lambda x: x * 2.0)
    step(normal(*WIDE))
    reference = weakref.ref(step)
    del step
    gc.collect()
    assert reference() is None


# -- generators --------------------------------------------------------------------------------------------------------


def test_generators_draw_on_as_eagerly_bit_by_bit():
    _, f = model_step(cell="lstm", layers=2, dropout=0.4)
    calls = [(*window, None, np.random.default_rng(n)) for n, window in enumerate(windows(3))]
    assert_replays(f, *calls)
    step, mine, theirs = tr.compile(f), np.random.default_rng(8), np.random.default_rng(8)
    for window in windows(4):
        assert_equal(step(*window, None, theirs), f(*window, None, mine), 1e-12)
        assert mine.bit_generator.state == theirs.bit_generator.state


def test_several_draws_in_a_step_keep_their_order():
    drop, w, u = tr.Dropout(0.5), leaf(3, 3), leaf(3, 3, seed=1)

    def f(xs, rng):
        h, outputs = np.zeros((2, 3)), []
        for t in range(4):
            with tr.at_step(t):
                h = np.tanh(drop(xs[:, t], rng) @ w + drop(h, rng) @ u)
            outputs.append(drop(h, rng))
        y = tr.stack(outputs, axis=1)
        return y, tr.grad(np.sum(y * y), [w, u])

    assert_replays(f, *[(normal(2, 4, 3, seed=n), np.random.default_rng(n)) for n in range(3)])


def test_a_generator_from_outside_draws_on_too():
    drop = tr.Dropout(0.5)
    mine, theirs = np.random.default_rng(0), np.random.default_rng(0)
    step = tr.compile(lambda x: drop(x, theirs))
    for _ in range(3):
        assert np.array_equal(step(np.ones(8)), drop(np.ones(8), mine))


def test_one_generator_or_two():
    drop = tr.Dropout(0.5)
    f = lambda x, a, b: (drop(x, a), drop(x, b))  # noqa: E731
    step = tr.compile(f)
    one, twin = np.random.default_rng(0), np.random.default_rng(0)
    assert_equal(step(np.ones(8), twin, twin), f(np.ones(8), one, one), 0)
    a, b, c, d = (np.random.default_rng(n) for n in (1, 2, 1, 2))
    assert_equal(step(np.ones(8), c, d), f(np.ones(8), a, b), 0)
    assert a.bit_generator.state == c.bit_generator.state
    assert b.bit_generator.state == d.bit_generator.state
