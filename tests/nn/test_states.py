"""States of a user's cell: dataclasses are nestings like tuples, objects are refused; with lengths, parts fit N."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

XS = np.random.default_rng(0).standard_normal((2, 6, 1))


@dataclass
class State:
    h: object
    count: object


@dataclass(frozen=True, slots=True)
class Frozen:
    h: object
    count: object


class Opaque:
    """An object with an array that nobody sees."""

    def __init__(self, *parts):
        self.parts = parts


def task(kind):
    """Return a step, its parameters and a first state: a leaky sum and a counter, held in a state of this kind."""
    w = tr.parameter(np.array(0.9))

    def cell(x, state):
        h, count = (state.h, state.count) if isinstance(state, State | Frozen) else state
        h = w * h + x
        return h, kind(h, count + 1)

    def step(xs, state, **options):
        outputs, state = tr.unroll(cell, xs, state, **options)
        return np.sum(outputs * outputs), state

    return step, {"w": w}, kind(np.zeros((2, 1)), np.zeros((), int))


def pair(*parts):
    return parts


def numbers(nest):
    return [np.asarray(part.data if isinstance(part, tr.Tensor) else part) for part in flatten(nest)]


def same(a, b):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


@pytest.mark.parametrize("kind", [State, Frozen])
@pytest.mark.parametrize(
    "options", [{"cut_every": 2}, {"lengths": [2, 6]}, {"cut_every": 3, "lengths": [4, 5]}], ids=str
)
def test_a_dataclass_is_cut_and_masked_like_a_tuple(kind, options):
    found = []
    for made in (kind, pair):
        step, parameters, state = task(made)
        loss, after = step(XS, state, **options)
        assert isinstance(after, made if made is kind else tuple)
        found.append((after, tr.grad(loss, parameters)))
    same(*(numbers(after) + numbers(gradients) for after, gradients in found))


@pytest.mark.parametrize("kind", [State, Frozen])
@pytest.mark.parametrize(
    "policy", ["chunked:2", "windowed:2", "decay:0.5", "adaptive:0.1/3", "rtrl", "snap:1", "uoro", "forward", "kf"]
)
def test_a_dataclass_is_followed_by_every_policy(kind, policy):
    found = []
    for made in (kind, pair):
        step, parameters, state = task(made)
        found.append(tr.bptt(step, parameters, XS, state, policy).gradients)
    same(*found)


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_a_dataclass_goes_into_a_plan_and_comes_out_of_it(setting):
    step, parameters, first = task(State)

    def run(xs, state):
        loss, state = step(xs, state)
        return state, tr.grad(loss, parameters)

    compiled = tr.compile(run, **setting)
    for number in range(6):  # from the fifth call on, a shortcut may serve
        state = State(first.h + number, first.count)
        after, _ = compiled(XS, state)
        assert type(after) is State
        same(after, run(XS, state)[0])
    assert len(compiled.plans) == 1
    assert compiled(XS, State(first.h, 3))[0].count == 9  # a number is part of the signature


@pytest.mark.parametrize(
    "use",
    [
        lambda step, state: step(XS, state),
        lambda step, state: tr.scan(lambda x, s: (x, s), state, XS),
        lambda step, state: tr.cut(state),
        lambda step, state: tr.bptt(step, task(pair)[1], XS, state, "chunked:2"),
        lambda step, state: tr.bptt(step, task(pair)[1], XS, state, "rtrl"),
    ],
    ids=["unroll", "scan", "cut", "bptt", "rtrl"],
)
@pytest.mark.parametrize("kind", [Opaque, lambda *parts: ({"rest": deque(parts)},)], ids=["object", "deque"])
def test_an_object_that_may_hold_arrays_is_refused(use, kind):
    step, _, state = task(kind)
    with pytest.raises(tr.DTypeError, match=r"(state|h)\S* is an? (Opaque|deque), which may hold arrays"):
        use(step, state)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("zero", [np.zeros(()), np.zeros((), int), 0, 0.0], ids=repr)
def test_one_number_for_all_sequences_ends_with_the_longest(setting, zero):
    w = tr.parameter(np.array(0.9))

    def cell(x, state):
        h, total = state
        h = w * h + x
        return h, (h, total + 1)

    def run(xs, lengths):
        return tr.unroll(cell, xs, (np.zeros((2, 1)), zero), lengths=lengths)[1]

    compiled = tr.compile(run, **setting)
    for lengths in ([2, 3], [6, 1], [1, 1]):
        found = compiled(XS, np.array(lengths))
        same(found, run(XS, np.array(lengths)))
        assert found[1] == max(lengths)


@pytest.mark.parametrize("width", [1, 3])
def test_with_lengths_a_part_without_the_axis_of_the_sequences_is_an_error(width):
    def cell(x, state):
        h, mean = state
        h = 0.9 * h + x
        return h, (h, 0.5 * mean + 0.5 * h.mean(axis=0))

    state = (np.zeros((2, width)), np.zeros(width))
    xs = np.ones((2, 4, width))
    assert tr.unroll(cell, xs, state)[1][1].shape == (width,)
    with pytest.raises(tr.ShapeError, match=rf"shape \(N, ...\) = \(2, ...\).* got \({width},\)"):
        tr.unroll(cell, xs, state, lengths=[2, 4])


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize(
    "first", [{"a": np.ones((2, 1)), "h": np.zeros((2, 1))}, {"h": np.zeros((2, 1)), "a": None}], ids=["order", "None"]
)
def test_with_lengths_the_first_state_may_be_nested_otherwise(setting, first):
    w = tr.parameter(np.array(0.5))

    def cell(x, state):
        h = w * state["h"] + x
        return h, {"h": h, "a": h if state["a"] is None else 0.5 * state["a"] + h}

    def run(xs, lengths):
        return tr.unroll(cell, xs, first, lengths=lengths)[1]

    found, expected = tr.compile(run, **setting)(XS, np.array([2, 4])), run(XS, np.array([2, 4]))
    assert found.keys() == expected.keys()
    for name in expected:
        same(found[name], expected[name])


def test_with_lengths_a_state_that_changes_its_nesting_later_is_an_error():
    def cell(x, state):
        return x, (*state, x)

    with pytest.raises(tr.ShapeError, match=r"unroll: with lengths, expected cell to keep the nesting .* at step 1"):
        tr.unroll(cell, XS, (XS[:, 0],), lengths=[1, 6])
