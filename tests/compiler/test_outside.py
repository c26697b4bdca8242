"""What a function uses from outside: buffers that are refilled, arrays that change between calls, draws of its own."""

import gc
import random
import sys
import warnings
import weakref
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_equal, assert_replays, executors, leaf, normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.outside import Outside, named_by, same
from tinygrad_rnn.engine.tensor import adopt

SETTINGS = executors()


@pytest.fixture(params=SETTINGS, ids=[setting["executor"] for setting in SETTINGS])
def compiled(request):
    """Compile a function for one of the executors."""
    return partial(tr.compile, **request.param)


# -- buffers that the function refills -------------------------------------------------------------------------------


def operand(x, fill):
    total, m = x * 0, np.zeros(3)
    for t in range(3):
        fill(m, t)
        total = total + x * m
    return total


def ids(x, fill):
    table, found, i = x * np.eye(3), [], np.zeros(2, int)
    for t in range(3):
        i[:] = (t, 2 - t)
        found.append(tr.take(table, i, axis=0))
    return tr.stack(found)


def list_of_ids(x, fill):
    table, found, i = x * np.eye(3), [], [0, 0]
    for t in range(3):
        i[0] = t
        found.append(tr.take(table, i, axis=0))
    return tr.stack(found)


def targets(x, fill):
    losses, i = [], np.zeros(1, int)
    for t in range(3):
        i[:] = t
        losses.append(tr.cross_entropy(np.reshape(x, (1, 3)), i))
    return tr.stack(losses)


def conditions(x, fill):
    total, mask = x * 0, np.zeros(3, bool)
    for t in range(3):
        mask[:] = False
        mask[t] = True
        total = total + np.where(mask, x * (t + 1), 0)
    return total


def comparisons(x, fill):
    total, limit = x * 0, np.zeros(3)
    for t in range(3):
        fill(limit, t)
        total = total + np.where(x > limit, x, 0)
    return total


def cell_inputs(x, fill):
    cell, h, buffer = tr.RNNCell(3, 2, np.random.default_rng(0), float), np.zeros((1, 2)), np.zeros((1, 3))
    for t in range(3):
        fill(buffer[0], t)
        h, _ = cell(buffer, h)
    return np.sum(h) * x


def cotangents(x, fill):
    found, seed = [], np.zeros(3)
    w = leaf(3)
    for t in range(3):
        fill(seed, t)
        found.append(tr.grad(w * x, w, cotangent=seed))
    return found


def kept_for_the_gradient(x, fill):
    w, total, m = leaf(3), 0.0, np.zeros(3)
    for t in range(3):
        fill(m, t)
        total = total + np.sum(w * m * x)
    return tr.grad(total, w)


def views(x, fill):
    total, whole = x * 0, np.zeros((3, 2))
    view = whole[:, 1]
    for t in range(3):
        fill(whole[:, 1], t)
        total = total + x * view + whole.T[1] * x
    return total


def index_arrays(x, fill):
    found, i = [], np.zeros(2, int)
    for t in range(3):
        i[:] = (t, 2 - t)
        found.append(x[i])
    return tr.stack(found)


def joined(x, fill):
    found, m = [], np.zeros(3)
    for t in range(3):
        fill(m, t)
        found.append(tr.concatenate([x, m]))
    return tr.stack(found)


def tensors_made_of_it(x, fill):
    total, m = x * 0, np.zeros(3)
    for t in range(3):
        fill(m, t)
        total = total + x * tr.tensor(m)
    return total


def returned(x, fill):
    m = np.zeros(3)
    fill(m, 0)
    y = x * m
    fill(m, 1)
    return y, m


def signs_and_nan(x, fill):
    m = np.array([0.0, np.nan, 1.0])
    first = np.clip(1 / (x * m), -1, 1)
    m[0] = -0.0
    return first, np.clip(1 / (x * m), -1, 1)


def frozen_again(x, fill):
    total, m = x * 0, np.zeros(3)
    for t in range(3):
        m.flags.writeable = True
        fill(m, t)
        m.flags.writeable = False
        total = total + x * m
    return total


@tr.primitive()
def scaled(x, /, by):
    """Return x * by."""
    return x * by


@scaled.rule()
def _(g, y, x, *, by):
    return (g * by,)


def attributes(x, fill):
    total, m = x * 0, np.zeros(3)
    for t in range(3):
        fill(m, t)
        total = total + scaled(x, by=m)
    return total


REFILLED = [operand, ids, list_of_ids, targets, conditions, comparisons, cell_inputs, cotangents, kept_for_the_gradient]
REFILLED += [views, index_arrays, joined, tensors_made_of_it, returned, signs_and_nan, frozen_again, attributes]


def fill(m, t):
    m[:] = 0
    m[t] = t + 1


@pytest.mark.parametrize("f", REFILLED)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_buffer_that_is_refilled_is_read_as_it_was_at_each_use(f):
    x = np.array([1.0, 2.0, 4.0])
    assert_replays(lambda x: f(x, fill), (x,), (x * 3,))


def test_the_smallest_case(compiled):
    def f(x):
        s, m = x * 0, np.zeros(3)
        for t in range(3):
            m[:] = 0
            m[t] = t + 1
            s = s + x * m
        return s

    assert np.array_equal(compiled(f)(np.ones(3)), [1, 2, 3])


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8))
def test_drawn_orders_of_fills_and_uses(seed, steps):
    def f(x):
        rng = np.random.default_rng(seed)
        buffers = [np.zeros(4), np.zeros((2, 4)), np.zeros(4, np.float32)]
        views = [buffers[0], buffers[0][::-1], buffers[1][0], buffers[1][:, 1:3], buffers[2], buffers[1]]
        total = x
        for _ in range(steps):
            view = views[rng.integers(len(views))]
            view[...] = rng.integers(-2, 3, view.shape)
            for view in (views[rng.integers(len(views))], views[rng.integers(len(views))]):
                total = total * 0.5 + np.sum(x * 2.0) * np.sum(view * x[: view.shape[-1]])
        return total

    assert_replays(f, (normal(4),))


# -- arrays from outside that change between calls ---------------------------------------------------------------------


class Holder:
    """Something that has arrays, but is no module."""

    def __init__(self):
        self.array, self.index, self.unused = np.ones(3), np.array([0, 1]), np.zeros(3)

    def method(self, x):
        return x * self.array + np.sum(x[self.index])

    def derived(self, x):
        return x * (self.array + 1)


holder, listed, table = Holder(), [np.ones(3)], np.ones((6, 3))
alone, base, whole, wide = np.ones(3), np.ones((3, 3)), np.ones((8, 3)), np.ones(3, complex)
CHANGES = {
    "operand": (lambda x: x * alone, alone),
    "derived": (lambda x: x * (alone * 2 + 1), alone),
    "one element": (lambda x: x * float(alone[1]), alone),
    "index": (lambda x: x[holder.index], holder.index),
    "attribute": (lambda x: x * holder.array, holder.array),
    "method": (holder.method, holder.array),
    "method of an object": (lambda x: holder.method(x), holder.array),
    "derived in a method": (lambda x: holder.derived(x), holder.array),
    "index in a method": (holder.method, holder.index),
    "in a list": (lambda x: x * listed[0], listed[0]),
    "tensor": (lambda x: x * tr.tensor(alone), alone),
    "cotangent": (lambda x: tr.grad((w := leaf(3)) * x, w, cotangent=alone), alone),
    "view": (lambda x: x * base[1], base),
    "returned": (lambda x: (x, alone), alone),
    "many views": (lambda x: sum(x * whole[t] for t in range(8)), whole),
    "complex": (lambda x: x * wide, wide),
    "lookup": (lambda x: tr.take(x, holder.index), holder.index),
    "condition": (lambda x: np.where(alone > 0.5, x, -x), alone),
    "default": (lambda x, alone=alone: x * alone, alone),
    "partial": (partial(lambda a, x: x * a, alone), alone),
    "a helper": (lambda x: helper(x), alone),
}


def helper(x):
    return x * alone


def changed(array, number):
    """Write something else into an array."""
    array[...] = (array + number) % 3 if array.dtype.kind == "i" else array * -0.5 * number


@pytest.mark.parametrize(("f", "array"), CHANGES.values(), ids=CHANGES)
@pytest.mark.filterwarnings("ignore:compile. an array of shape")
def test_what_changed_between_calls_is_seen(f, array, compiled):
    before, step, x = array.copy(), compiled(f), normal(3)
    try:
        for number in range(1, 5):
            assert_equal(step(x), f(x), 1e-12)
            plans = step.plans
            step(x)
            assert step.plans[0] is plans[0], "nothing has changed"
            changed(array, number)
    finally:
        array[...] = before


@pytest.mark.filterwarnings("ignore:compile. an array of shape")
def test_another_array_in_a_variable_is_seen(compiled):
    here, thing = np.ones(3), Holder()
    f = lambda x: x * here + thing.array  # noqa: E731
    step, x = compiled(f), normal(3)
    for number in range(1, 4):
        assert_equal(step(x), f(x), 1e-12)
        plan = step.plan
        step(x)
        assert step.plan is plan
        here = np.full(3, float(number))
        assert_equal(step(x), f(x), 1e-12)
        thing.array = np.full(3, 10.0 * number)
    step = compiled(thing.method)
    assert_equal(step(x), thing.method(x), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thing.array = np.zeros(3)
        assert_equal(step(x), thing.method(x), 1e-12)


def test_nan_and_signs_of_zero_are_told_apart():
    a = np.array([0.0, np.nan, 1.0])
    assert same(a, a.copy())
    assert not same(a, a * -1)
    assert not same(a, a.astype(np.float32))
    assert same(a.astype(np.longdouble), a.astype(np.longdouble))
    assert not same(np.zeros(1, np.longdouble), -np.zeros(1, np.longdouble))
    assert not same(np.zeros(1, complex), np.conj(np.zeros(1, complex)))


def test_only_writable_arrays_that_are_still_there_are_looked_at(compiled):
    fixed, writable = np.ones(3), np.ones(3)
    fixed.flags.writeable = False
    seen = weakref.ref(writable)
    step = compiled(lambda x, arrays: x * fixed * np.full(3, 2.0) * arrays[0])
    step(np.ones(3), Box([writable]))
    (ready,) = step._plans.values()
    assert [owner is writable for _, owner in ready.outside._alive()] == [True]
    del writable
    gc.collect()
    assert seen() is None
    assert list(ready.outside._alive()) == []


class Box:
    """A list that is no part of a nesting."""

    def __init__(self, content):
        self.content = content

    def __getitem__(self, number):
        return self.content[number]


def test_a_view_among_many_that_changes_alone():
    array = np.zeros((9, 4))
    outside = Outside((array[t, :2], array[t, :2].copy()) for t in range(9))
    outside.settle()
    array[3, 3] = 1  # nobody looks there
    assert outside.changed() is None
    array[8, 1] = 1
    assert outside.changed() == (2,)
    assert Outside([(array, array.copy())]).changed() is None


def test_memory_that_is_no_arrays_is_watched(compiled):
    memory = bytearray(24)
    step = compiled(lambda x: x + np.frombuffer(memory))
    assert np.array_equal(step(np.zeros(3)), [0, 0, 0])
    np.frombuffer(memory)[:] = 5
    assert np.array_equal(step(np.zeros(3)), [5, 5, 5])


def test_arrays_that_change_often_are_worth_a_word(compiled):
    buffer = np.zeros((2, 3))
    step = compiled(lambda x: x + buffer)
    for number in range(3):
        buffer[:] = number
        step(np.zeros(3))
    buffer[:] = 3
    with pytest.warns(
        RuntimeWarning, match=r"an array of shape \(2, 3\) that the function uses from outside.*pass the"
    ):
        step(np.zeros(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer[:] = 4
        assert step(np.zeros(3))[0, 0] == 4


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("setting", executors())
def test_parameters_that_lie_where_results_did_are_not_from_outside(setting, passed, monkeypatch):
    """Recorded with such parameters, a plan is not recorded anew when an executor writes to that memory again."""
    w = leaf(80, 60)

    def train(params, x):
        (w_,) = params or [w]
        return w_ - 0.1 * tr.grad(np.sum(np.tanh(x @ w_)), w_)

    step = tr.compile(train, **setting)
    recorded, calls = step._record, []
    monkeypatch.setattr(step, "_record", lambda args: calls.append(args) or recorded(args))
    for seed in range(12):
        x = normal((5, 4, 7)[seed % 3], 80, seed=seed)
        expected = train([w], x).data
        adopt(w, step([w] if passed else [], x))
        assert_equal(w.data, expected, 1e-12)
    assert len(calls) == 3


def test_a_read_only_argument_that_was_written_to_in_between_is_read_anew(compiled):
    step = compiled(lambda x: x * 2.0)
    for size in (3, 5000):
        x = np.zeros(size)
        for number in range(4):
            x.flags.writeable = True
            x[:] = number
            x.flags.writeable = False
            assert step(x)[0] == 2 * number


# -- draws -------------------------------------------------------------------------------------------------------------

outside_rng, old_rng, python_rng = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)


class Drawing:
    """Something that draws."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.rng.standard_normal(x.shape)


DRAWS = {
    "np.random": (lambda x: x * np.random.rand(), "np.random"),  # noqa: NPY002
    "random": (lambda x: x * random.random(), "random"),
    "shuffle": (lambda x: x[np.random.permutation(3)], "np.random"),  # noqa: NPY002
    "generator": (lambda x: x * outside_rng.random(), "a generator"),
    "RandomState": (lambda x: x * old_rng.rand(), "a np.random.RandomState"),
    "Random": (lambda x: x * python_rng.random(), "a random.Random"),
    "attribute": (Drawing(), "a generator"),
}


@pytest.mark.parametrize(("f", "source"), DRAWS.values(), ids=DRAWS)
def test_draws_of_the_functions_own_are_an_error_and_given_back(f, source):
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with pytest.raises(tr.TraceError, match=f"the function draws from {source} by itself; .*Draw outside and pass"):
        tr.compile(f)(normal(3))
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert before[1] == random.getstate()


def test_the_librarys_own_draws_from_a_generator_outside_are_none():
    drop, rng = tr.Dropout(0.5), np.random.default_rng(3)
    step = tr.compile(lambda x: drop(x, rng))
    results = [step(np.ones(8)) for _ in range(3)]
    again = np.random.default_rng(3)
    for result in results:
        assert np.array_equal(result, drop(np.ones(8), again))


def test_an_error_of_the_function_is_not_hidden_by_its_draws():
    def f(x):
        outside_rng.random()
        raise KeyboardInterrupt

    state = outside_rng.bit_generator.state
    step = tr.compile(f)
    with pytest.raises(KeyboardInterrupt):
        step(normal(3))
    assert step.plans == []
    assert outside_rng.bit_generator.state == state


def test_names_of_libraries_are_not_followed():
    found = named_by(lambda x: np.tanh(x) + tr.sigmoid(x) + sys.maxsize)
    assert found[0] == []
