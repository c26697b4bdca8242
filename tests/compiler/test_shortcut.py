"""Shortcuts: they take calls of the same signature, nearly all of them, and give what other calls give."""

from __future__ import annotations

import gc
import threading
import weakref
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import Graph
from tinygrad_rnn.compiler.recording.outside import Outside
from tinygrad_rnn.compiler.recording.signature import signature
from tinygrad_rnn.compiler.recording.trace import Recorded
from tinygrad_rnn.compiler.replay.shortcut import OTHER, written
from tinygrad_rnn.engine.tree import flatten

LEAF, OTHER_LEAF = (tr.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
RNG, OTHER_RNG = (np.random.default_rng(0) for _ in range(2))
PARTS = (
    *(np.zeros(2), np.ones(2), np.zeros(3), np.zeros(2, np.float32), np.float64(1.0), np.float64(2.0)),
    *(LEAF, OTHER_LEAF, tr.tensor([1.0, 2.0]), LEAF * 2.0, np.zeros(2).view(np.recarray), RNG, OTHER_RNG),
    *(None, 1, True, 1.0, 0.0, -0.0, "a", b"a", (), [], {}, slice(1, 2), slice(1, 3)),
)
nests = st.recursive(
    st.sampled_from(PARTS),
    lambda inner: (
        st.tuples(inner)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b", 1, True]), inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=1).map(MappingProxyType)
    ),
    max_leaves=4,
)
calls = st.tuples(
    st.lists(nests, max_size=2).map(tuple), st.dictionaries(st.sampled_from(["p", "q"]), nests, max_size=2)
)


def is_rare(part):
    """Return whether a part has no place in a shortcut."""
    if isinstance(part, tuple | list):
        return any(map(is_rare, part))
    if isinstance(part, dict):
        return not all(isinstance(name, str) for name in part) or any(map(is_rare, part.values()))
    if isinstance(part, tr.Tensor):
        return part.requires_grad and not part.is_leaf
    return isinstance(part, np.recarray | MappingProxyType | slice)


def has_generators(call):
    """Return whether there are two: which of them are the same one is part of the signature."""
    return sum(isinstance(leaf, np.random.Generator) for leaf in flatten(call)) > 1


def shortcut_of(call):
    nothing = Recorded(Graph([], [], []), [], 0, Outside([]))  # a result that is no array: `run` makes it
    return written(call, True, threading.RLock(), nothing, None)


@given(calls, calls, st.booleans())
def test_a_shortcut_takes_what_has_the_same_signature(one, two, same):
    two = one if same else two
    (key, _), (other, leaves) = signature(one), signature(two)
    shortcut = shortcut_of(one)
    assert (shortcut is None) == (is_rare(one[0]) or is_rare(one[1]) or has_generators(one))
    if shortcut is not None:
        found = shortcut(*two, True, lambda leaves: leaves)
        assert (found is not OTHER) == (key == other)
        assert found is OTHER or list(map(id, found)) == list(map(id, leaves))


@pytest.mark.parametrize("one", PARTS, ids=lambda part: f"{type(part).__name__}")
def test_every_kind_of_argument_after_every_other(one):
    kinds = *PARTS, np.array([1, 2]), [1.0], {"a": 1}, (np.zeros(2),), MappingProxyType({})  # nor are these hashable
    shortcut, (key, _) = shortcut_of(((one,), {})), signature(((one,), {}))
    for two in kinds if shortcut is not None else ():
        found = shortcut((two,), {}, True, lambda leaves: leaves)
        same = type(two) is type(one) and signature(((two,), {}))[0] == key  # a constant Tensor may be an array: rare
        assert (found is not OTHER) == same, two


def test_whether_gradients_are_recorded_is_part_of_it():
    call = (np.zeros(2),), {}
    assert shortcut_of(call)(*call, True, len) == 1
    assert shortcut_of(call)(*call, False, len) is OTHER


@pytest.fixture(params=["native", "numpy"])
def compiled(request):
    """Return `compile`, and a call that is made so often that it has a shortcut."""

    def often(step, *args, **kwargs):
        for _ in range(6):
            made = step(*args, **kwargs)
        assert step._newest.shortcut is not None
        return made

    return lambda function: tr.compile(function, executor=request.param), often


def test_a_read_only_array_that_was_written_to_in_between_is_read_anew(compiled):
    make, _ = compiled
    step, x = make(lambda x: np.sum(x)), np.zeros(5000)
    for value in range(12):
        x.flags.writeable = True
        x[:] = value
        x.flags.writeable = False
        assert step(x) == 5000 * value


@pytest.mark.parametrize("size", [3, 5000])
def test_weights_and_arrays_from_outside_that_change(compiled, size):
    make, often = compiled
    W, offset = tr.tensor(np.ones(size)), np.zeros(2)
    step, x = make(lambda x: (np.sum(W * x), offset * 1.0)), np.ones(size)
    assert often(step, x)[0] == size
    W.data = np.full(size, 2.0)
    for _ in range(3):
        assert step(x)[0] == 2 * size
    offset[:] = 5
    assert step(x)[1].tolist() == [5, 5]


def test_arguments_of_another_kind_after_many_alike(compiled):
    make, often = compiled
    step = make(lambda x, state, scale=1.0: (x * scale, {"h": state["h"] + x, "none": None}, [x]))
    x, state = np.ones(3), {"h": np.zeros(3)}
    first = often(step, x, state)
    assert [list(first[1]), first[1]["none"], type(first[2])] == [["h", "none"], None, list]
    kept = step(x, state)[0]
    assert step(2 * x, state)[0].tolist() == [2, 2, 2]
    assert kept.tolist() == [1, 1, 1]  # it is the caller's
    assert step(x, {"h": tr.tensor([1.0, 1.0, 1.0])})[1]["h"].tolist() == [2, 2, 2]
    assert step(x, state, scale=2.0)[0].tolist() == [2, 2, 2]
    assert often(step, x.astype(np.float32), state)[0].dtype == np.float32
    with pytest.raises(KeyError):
        step(x, {"c": np.zeros(3)})
    with pytest.raises(TypeError):
        step(x)
    assert step(x, state)[1]["h"].tolist() == [1, 1, 1]


def test_an_error_leaves_the_function_ready_for_the_next_call(compiled):
    make, often = compiled
    table = tr.tensor(np.arange(12.0).reshape(4, 3))
    step = make(lambda ids: np.take(table, ids, axis=0))
    assert often(step, np.array([1])).tolist() == [[3, 4, 5]]
    with pytest.raises(IndexError):
        step(np.array([7]))
    found: list[object] = []
    other = threading.Thread(target=lambda: found.append(step(np.array([2])).tolist()))  # nobody holds the lock
    other.start()
    other.join(30)
    assert found == [[[6, 7, 8]]]


def test_a_call_beside_that_of_another_thread_waits(compiled):
    make, often = compiled
    step = make(lambda x: x * 2.0)
    often(step, np.ones(2))
    found: list[object] = []
    with step._lock:
        other = threading.Thread(target=lambda: found.append(step(np.ones(2)).tolist()))
        other.start()
        other.join(0.2)
        assert not found
    other.join(30)
    assert found == [[2, 2]]


def test_generators_draw_as_often_as_in_eager_execution(compiled):
    make, _ = compiled
    step = make(lambda x, rng: tr.Dropout(0.5)(x, rng))
    rng, again = (np.random.default_rng(0) for _ in range(2))
    for _ in range(8):
        assert np.array_equal(step(np.ones(9), rng), np.asarray(tr.Dropout(0.5)(np.ones(9), again)))
    assert step._newest.shortcut is not None


def test_a_shortcut_keeps_no_plan_alive():
    W = tr.tensor(np.ones(3))
    step = tr.compile(lambda x: x * W)
    for _ in range(6):
        step(np.ones(3))
    plan = weakref.ref(step._newest.executor)
    gc.disable()
    try:
        del step
        assert plan() is None
    finally:
        gc.enable()
