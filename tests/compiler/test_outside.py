"""What a function uses from outside: buffers that are refilled, arrays that change between calls, draws of its own."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_replays, leaf, normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.named import named_by

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
