"""Functions that are recorded often: a warning says so, once, and which part of the signature changed."""

import functools
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import leaf, normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.anew import differences, parts_of
from tinygrad_rnn.compiler.recording.signature import signature


class Scale:
    """An object that is told apart by identity."""


def step(ids, state=None, *more, rate=0.0):
    return ids


W, V, SCALE = leaf(2), leaf(2), Scale()
X, Y = np.ones((20, 35)), np.ones((20, 41))
RNG = np.random.default_rng(0)
PAD = "loop over time with tr.scan, which serves any length, or pad, or raise max_plans"
PASS = "pass it as np.asarray(...), which is read anew at each call"

CASES = [
    (((X,), {}), ((Y,), {}), [f"ids: shape (20, 35) -> (20, 41) ({PAD})"]),
    (((X,), {}), ((X.astype(np.float32),), {}), ["ids: dtype float64 -> float32"]),
    (((X,), {"rate": 0.1}), ((X,), {"rate": 0.2}), [f"rate: 0.1 -> 0.2 ({PASS})"]),
    (((X,), {"rate": 1}), ((X,), {"rate": True}), [f"rate: 1 -> True ({PASS})"]),
    (((X,), {"rate": 0.0}), ((X,), {"rate": -0.0}), [f"rate: 0.0 -> -0.0 ({PASS})"]),
    (((X,), {"rate": np.float32(1)}), ((X,), {"rate": 1.0}), [f"rate: np.float32(1.0) -> 1.0 ({PASS})"]),
    (((X, "a"), {}), ((X, "b"), {}), ["state: 'a' -> 'b'"]),
    (((X, None), {}), ((X, X), {}), ["state: None -> an array, shape (20, 35), dtype float64"]),
    (((X, {"h": [X]}), {}), ((X, {"h": [Y]}), {}), [f'state["h"][0]: shape (20, 35) -> (20, 41) ({PAD})']),
    (
        ((X, None, {"state": [X]}), {}),
        ((X, None, {"state": [Y]}), {}),
        [f'args[2]["state"][0]: shape (20, 35) -> (20, 41) ({PAD})'],
    ),
    (((X, {"h": X}), {}), ((X, {"c": X}), {}), ["state: a dict of ['h'] -> a dict of ['c']"]),
    (((X, (X, X)), {}), ((X, (X,)), {}), ["state: a tuple of 2 -> a tuple of 1"]),
    (((X, (X, X)), {}), ((X, [X, X]), {}), ["state: a tuple of 2 -> a list of 2"]),
    (((W,), {}), ((V,), {}), ["ids: a Tensor that requires a gradient, and now a different one"]),
    (((W,), {}), ((normal(2),), {}), ["ids: a Tensor that requires a gradient -> an array"]),
    (((X, SCALE), {}), ((X, Scale()), {}), ["state: an object of type Scale, and now a different one"]),
    (((X, RNG, RNG), {}), ((X, RNG, np.random.default_rng(1)), {}), ["args[2]: a Generator, and now a different one"]),
    (((X,), {}), ((X, X), {}), ["positional arguments: 1 -> 2"]),
    (((X,), {"rate": 1}), ((X,), {}), ["named arguments: ['rate'] -> []"]),
    (
        ((X, 1), {"rate": 2}),
        ((Y, 3), {"rate": 2}),
        [f"ids: shape (20, 35) -> (20, 41) ({PAD})", f"state: 1 -> 3 ({PASS})"],
    ),
    (((X, RNG), {"rate": W}), ((np.zeros((20, 35)), np.random.default_rng(3)), {"rate": W}), []),
]


@pytest.mark.parametrize(("before", "now", "words"), CASES)
def test_what_differs_is_named(before, now, words):
    assert differences(parts_of(before, step), parts_of(now, step)) == words
    assert (signature(before)[0] != signature(now)[0]) == bool(words)


def test_whether_gradients_are_recorded_is_named():
    before = parts_of(((X,), {}), step)
    with tr.no_grad():
        assert differences(before, parts_of(((X,), {}), step)) == ["whether gradients are recorded: True -> False"]


leaves = st.sampled_from(
    [
        X,
        Y,
        X.astype(int),
        W,
        V,
        tr.tensor(X),
        None,
        0.0,
        -0.0,
        1,
        True,
        2,
        "a",
        "b",
        np.float32(1),
        np.nan,
        1j,
        SCALE,
        RNG,
        np.random.default_rng(1),
        slice(1, 2),
        slice(1, 3),
        np.float64,
        len,
        W * 2,
        frozenset([1]),
    ]
)
nests = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.sampled_from(["h", "c", 1, (2,)]), inner, max_size=2),
    ),
    max_leaves=3,
)
calls = st.tuples(
    st.lists(nests, max_size=3).map(tuple), st.dictionaries(st.sampled_from(["rate", "b"]), nests, max_size=1)
)


@given(before=calls, now=calls)
def test_words_differ_where_signatures_do(before, now):
    differ = signature(before)[0] != signature(now)[0]
    assert bool(differences(parts_of(before, step), parts_of(now, step))) == differ


# -- the warning -------------------------------------------------------------------------------------------------------


def quiet(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return f(*args, **kwargs)


def test_a_function_that_is_recorded_for_each_call_is_worth_a_word():
    fast = tr.compile(lambda x, rate: x * rate, max_plans=3)
    for rate in (0.1, 0.2, 0.3):
        quiet(fast, X, rate)
        quiet(fast, X, rate)
    with pytest.warns(RuntimeWarning) as caught:
        fast(X, 0.4)
    assert [str(one.message) for one in caught] == [
        "compile: test_a_function_that_is_recorded_for_each_call_is_worth_a_word.<locals>.<lambda> has been recorded 4 "
        "times, for another signature each time or for one whose plan is not kept any more (max_plans=3), which is "
        f"slow; changes since the last time: rate: 0.3 -> 0.4 ({PASS})"
    ]
    assert caught[0].filename == __file__
    quiet(fast, X, 0.5)


def test_plans_that_are_given_up_and_made_again_are_worth_a_word():
    fast = tr.compile(lambda x: x * 2.0, max_plans=1)
    quiet(fast, X)
    with pytest.warns(RuntimeWarning, match=r"x: shape \(20, 35\) -> \(20, 41\)"):
        fast(Y)
    quiet(fast, X)


def test_some_shapes_are_not_worth_a_word():
    fast = tr.compile(lambda x: x * 2.0)
    for _ in range(3):
        for n in range(8):
            quiet(fast, np.ones(n))


def test_no_more_than_three_differences_are_named():
    fast = tr.compile(lambda *args: args[0], max_plans=1)
    quiet(fast, 1, 2, 3, 4, 5)
    with pytest.warns(RuntimeWarning, match=r"args\[2\]: 3 -> 4 \(.*\); and 2 more$"):
        fast(2, 3, 4, 5, 6)


def test_arrays_from_outside_are_a_cause_of_their_own():
    buffer = np.zeros(3)
    fast = tr.compile(lambda x: x + buffer, max_plans=4)
    for number in range(3):
        buffer[:] = number
        quiet(fast, np.zeros(3))
    buffer[:] = 3
    with pytest.warns(RuntimeWarning, match="an array of shape"):
        fast(np.zeros(3))
    for number in range(5, 9):
        buffer[:] = number
        quiet(fast, np.zeros(3))


def test_a_function_that_fails_is_not_recorded():
    fast = tr.compile(lambda x: float(np.sum(x)), max_plans=1)
    for _ in range(3):
        with pytest.raises(tr.TraceError):
            quiet(fast, X)


def test_functions_of_any_kind_have_a_name():
    for f in (functools.partial(step, rate=1), Caller(), Caller().method):
        fast = tr.compile(f, max_plans=1)
        fast(X)
        with pytest.warns(RuntimeWarning, match="compile: (partial|Caller|Caller.method) has been"):
            fast(Y)


class Caller:
    """Something that can be called."""

    def __call__(self, x):
        return x

    def method(self, x):
        return x


def test_what_was_passed_is_not_kept():
    class Held:
        pass

    fast, held = tr.compile(lambda x, held: x), Held()
    fast(X, held)
    gone = weakref.ref(held)
    del held
    assert gone() is None
