"""Arrays from outside that change between calls of a compiled function."""

import gc
import warnings
import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from replay import assert_equal, executors, leaf, normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.outside import Outside, same
from tinygrad_rnn.engine.tensor import adopt


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


class Nested:
    """Something that has arrays in lists and dicts."""

    def __init__(self):
        self.kept, self.tables = {"w": np.ones(3), "note": "a", "more": [np.ones(3)]}, [np.ones(3), np.ones(3)]
        self.pair = np.ones(3), {"b": np.ones(3)}

    def method(self, x):
        return x * self.kept["w"] + self.kept["more"][0] + sum(self.tables) + self.pair[0] * self.pair[1]["b"]


REPLACED = {
    "of a dict": lambda nested: nested.kept.update(w=np.full(3, 2.0)),
    "of a list": lambda nested: nested.tables.__setitem__(0, np.full(3, 3.0)),
    "of a list in a dict": lambda nested: nested.kept["more"].__setitem__(0, np.full(3, 4.0)),
    "one more": lambda nested: nested.tables.append(np.full(3, 5.0)),
    "one less": lambda nested: nested.tables.pop(),
    "another list in a dict": lambda nested: nested.kept.update(more=[np.full(3, 6.0)]),
    "another dict": lambda nested: setattr(nested, "kept", {**nested.kept, "w": np.full(3, 7.0)}),
    "another tuple": lambda nested: setattr(nested, "pair", (np.full(3, 8.0), nested.pair[1])),
    "of a dict in a tuple": lambda nested: nested.pair[1].update(b=np.full(3, 9.0)),
}


@pytest.mark.parametrize("change", REPLACED.values(), ids=REPLACED)
@pytest.mark.parametrize("way", ["closure", "method", "argument"])
@pytest.mark.filterwarnings("ignore:compile. an array of shape")
def test_another_element_of_a_list_or_dict_is_seen(change, way, compiled):
    nested, x = Nested(), normal(3)
    f = {"closure": lambda x: nested.method(x), "method": nested.method, "argument": lambda x, n: n.method(x)}[way]
    arguments = (x, nested) if way == "argument" else (x,)
    step = compiled(f)
    for _ in range(5):  # the shortcut too
        assert_equal(step(*arguments), f(*arguments), 1e-12)
    plan = step.plan
    nested.kept["note"] = "b"  # no array
    step(*arguments)
    assert step.plan is plan
    change(nested)
    assert_equal(step(*arguments), f(*arguments), 1e-12)


class Slotted:
    """Something without a dict, whose class has an array too."""

    __slots__ = ("array", "below")
    shared = np.ones(3)

    def __init__(self, below=None):
        self.array, self.below = np.ones(3), below

    def method(self, x):
        return x * self.array + self.shared * self.below.inner.array


@pytest.mark.filterwarnings("ignore:compile. an array of shape")
def test_another_array_in_a_slot_a_class_or_an_attribute_of_an_attribute_is_seen(compiled, monkeypatch):
    thing, x = Slotted(SimpleNamespace(inner=Holder())), normal(3)
    steps = [(compiled(f), f) for f in (thing.method, lambda x: x * thing.below.inner.array + Slotted.shared)]
    changes = (
        lambda: setattr(thing, "array", np.full(3, 2.0)),
        lambda: monkeypatch.setattr(Slotted, "shared", np.full(3, 3.0)),
        lambda: setattr(thing.below.inner, "array", np.full(3, 4.0)),
    )
    for change in changes:
        for step, f in steps:
            for _ in range(5):
                assert_equal(step(x), f(x), 1e-12)
        change()
        for step, f in steps:
            assert_equal(step(x), f(x), 1e-12)


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


def test_an_object_whose_class_has_an_array_is_not_kept(compiled):
    class Shared:
        array = np.ones(3)

    step, thing = compiled(lambda x, thing: x * thing.array), Shared()
    seen = weakref.ref(thing)
    step(np.ones(3), thing)
    del thing
    gc.collect()
    assert seen() is None
    assert_equal(step(np.ones(3), Shared()), np.ones(3), 0)


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
    with pytest.warns(RuntimeWarning, match=r"an array of shape \(2, 3\) that .+ uses from outside.*pass the"):
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
    monkeypatch.setattr(step, "_record", lambda *args: calls.append(args) or recorded(*args))
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
