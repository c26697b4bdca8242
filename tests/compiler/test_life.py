"""What a plan holds and what it survives: signatures, references, copies, forks, threads, interruptions."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading
from enum import Enum

import numpy as np
import pytest
from replay import leaf, normal, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.signature import signature
from tinygrad_rnn.compiler.replay import executor as executors_of_plans

# -- signatures --------------------------------------------------------------------------------------------------------


class Colour(Enum):
    """Names for numbers."""

    RED = 1


nan, other_nan = float("nan"), float("nan")
APART = {
    "zeros of float32": (np.float32(0.0), np.float32(-0.0)),
    "zeros of float64": (np.float64(0.0), np.float64(-0.0)),
    "zeros": (0.0, -0.0),
    "zeros of float16": (np.float16(0.0), np.float16(-0.0)),
    "complex zeros": (complex(0, 0.0), complex(0, -0.0)),
    "complex64": (np.complex64(complex(0.0, 0)), np.complex64(complex(-0.0, 0))),
    "truth": (True, 1),
    "whole": (1, 1.0),
    "types": (np.float32(1), np.float64(1)),
    "integers": (np.int32(1), np.int64(1)),
    "truth values": (np.bool_(True), 1),
    "keys": ({1: 2.0}, {True: 2.0}),
    "keys of zero": ({0.0: 2.0}, {-0.0: 2.0}),
    "slices": (slice(0, 1), slice(False, True)),
    "sets": (frozenset([1]), frozenset([True])),
    "names": (Colour.RED, 1),
    "text": ("1", 1),
    "tuple and list": ((1,), [1]),
    "text of numpy": (np.str_("a"), "a"),
}


@pytest.mark.parametrize(("one", "two"), APART.values(), ids=APART)
def test_values_that_differ_have_signatures_that_differ(one, two):
    assert signature(((one,), {}))[0] != signature(((two,), {}))[0]


SAME = {
    "nan": (nan, other_nan),
    "nan of float32": (np.float32("nan"), np.float32("nan")),
    "nan of complex64": (np.complex64("nan"), np.complex64("nan")),
    "slices": (slice(1, None), slice(1, None)),
    "dates": (np.datetime64("2020-01-01"), np.datetime64("2020-01-01")),
    "dtypes": (np.dtype("f4"), np.dtype(np.float32)),
}


@pytest.mark.parametrize(("one", "two"), SAME.values(), ids=SAME)
def test_values_that_are_the_same_share_a_plan(one, two):
    assert signature(((one,), {}))[0] == signature(((two,), {}))[0]
    step = tr.compile(lambda x, value: x * 2.0)
    step(np.ones(2), one), step(np.ones(2), two)
    assert len(step.plans) == 1


def test_zeros_of_both_signs_give_what_eager_gives(compiled):
    step = compiled(lambda x, zero: x / zero)
    with np.errstate(divide="ignore"):
        for zero in (np.float32(0.0), np.float32(-0.0), 0.0, -0.0):
            assert step(np.ones(1, np.float32), zero) == np.ones(1) / zero


def test_a_slice_may_be_an_argument(compiled):
    step = compiled(lambda x, part: x[part])
    for part in (slice(0, 2), slice(1, 3), slice(0, 2)):
        assert np.array_equal(step(np.arange(4.0), part), np.arange(4.0)[part])
    assert len(step.plans) == 2


def test_the_same_recorded_result_passed_twice_is_one_place(compiled):
    w = leaf(3)
    y, z = w * 2.0, w * 3.0

    def f(a, b):
        return tr.grad(np.sum(a * b), [a, b], allow_unused=True)

    step = compiled(f)
    for a, b in ((y, y), (y, z), (z, z)):
        for got, want in zip(step(a, b), f(a, b), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)
    assert len(step.plans) == 2


def test_an_argument_that_was_computed_from_another_is_an_error_where_that_would_matter(compiled):
    y = leaf(3) * 2.0
    z = y * y

    def f(y, z):
        return tr.grad(np.sum(y * z), y)

    with pytest.raises(tr.TraceError, match="the argument arg1 was computed from it before the call"):
        compiled(f)(y, z)
    np.testing.assert_allclose(compiled(f)(y, tr.cut(z)), f(y, tr.cut(z)), rtol=1e-12)
    parts = np.unstack(leaf(2, 3) * 2.0)
    for got, want in zip(compiled(f)(*parts), f(*parts), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


# -- references --------------------------------------------------------------------------------------------------------


class Thing:
    """An argument that is no array."""

    factor = 2.0


ARGUMENTS = {
    "array": lambda: np.ones(5000),
    "small array": lambda: np.ones(3),
    "tensor": lambda: tr.tensor(np.ones(3)),
    "parameter": lambda: leaf(3),
    "recorded": lambda: leaf(3) * 2.0,
    "generator": lambda: np.random.default_rng(0),
    "object": Thing,
    "function": lambda: lambda: 2.0,
}


@pytest.mark.parametrize("make", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_plan_holds_no_argument(make, compiled):
    drop = tr.Dropout(0.5)

    def f(x, part):
        if isinstance(part, np.random.Generator):
            return drop(x, part), part
        return (x * 2.0 if isinstance(part, Thing) or callable(part) else x * np.sum(part)), 1

    step = compiled(f)
    for _ in range(3):
        argument = make()
        before = references(argument)
        step(np.ones(3), argument)
        assert references(argument) == before


def references(argument):
    """Return how often an argument, and what it is made of, are referred to."""
    parts = [argument]
    if isinstance(argument, tr.Tensor):
        parts += [argument._array, argument._node]
    return [sys.getrefcount(part) for part in parts if part is not None]


def test_another_parameter_in_the_memory_of_an_old_one_has_a_plan_of_its_own(compiled):
    step = compiled(lambda w: tr.grad(np.sum(w * w), w))
    for seed in range(5):
        w = leaf(3, seed=seed)
        np.testing.assert_allclose(step(w), 2 * w.data)
        del w
    assert len(step.plans) == 5


def test_plans_for_objects_that_are_gone_go_too():
    step = tr.compile(lambda x, thing: x * thing.factor)
    for _ in range(5):
        step(np.ones(3), Thing())
    assert len(step.plans) == 1
    one, two = Thing(), Thing()
    for thing in (one, two, one, two):
        step(np.ones(3), thing)
    assert len(step.plans) == 2


# -- copies ------------------------------------------------------------------------------------------------------------


def test_copies_have_the_settings_and_no_plans():
    step = tr.compile(lambda x: x * 2.0, without=["fuse_loss"], max_plans=3, threads=2, executor="numpy")
    step(np.ones(3))
    for again in (copy.copy(step), copy.deepcopy(step)):
        assert (again.without, again.max_plans, again.threads) == (step.without, 3, 2)
        assert (again.executor, again.function) == ("numpy", step.function)
        assert again.plans == []
        assert again(np.ones(3))[0] == 2
    assert len(step.plans) == 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_compiled_function_is_not_pickled(protocol):
    with pytest.raises(tr.UnsupportedError, match="a compiled function cannot be pickled.*compile again"):
        pickle.dumps(tr.compile(np.tanh), protocol)


# -- processes and threads -----------------------------------------------------------------------------------------


def loss_step():
    """Return a step with a loss, whose rows the numpy executor shares among threads, and arguments of it."""
    w = leaf(8, 50)
    ids = np.arange(40) % 50

    def f(x):
        value = tr.cross_entropy(x @ w, ids)
        return value + np.sum(tr.grad(value, w))  # both: then one kernel computes them, on both threads

    return f, normal(40, 8)


def in_a_child(work):
    """Return what a function gives in a forked process; None if it takes longer than 20 s."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sender.send(work())
            status = 0
        finally:
            os._exit(status)
    found = receiver.recv() if receiver.poll(20) else None
    if found is None:
        os.kill(child, 9)
    os.waitpid(child, 0)
    return found


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_replays_in_a_forked_child(compiled):
    f, x = loss_step()
    with small_plans_shared():
        step = compiled(f)
        before = step(x)
        assert np.array_equal(in_a_child(lambda: [step(x) for _ in range(3)][-1]), before)
        assert np.array_equal(step(x), before)
        fresh = normal(40, 8, seed=1)
        assert np.array_equal(in_a_child(lambda: compiled(f)(fresh)), compiled(f)(fresh))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_replays(compiled):
    f, x = loss_step()
    step = compiled(f)
    before, held, done = step(x), threading.Event(), threading.Event()

    def hold():
        with step._lock:
            held.set()
            done.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    try:
        assert np.array_equal(in_a_child(lambda: step(x)), before)
    finally:
        done.set()
        other.join()


@pytest.mark.filterwarnings("ignore:compile. .* has been recorded:RuntimeWarning")
def test_threads_that_call_one_function_at_once(compiled):
    wrong: list[int] = []
    inputs = [normal(20 + n % 3, 8, seed=n) for n in range(12)]
    w = leaf(8, 50)

    def f(x):
        return tr.grad(tr.cross_entropy(x @ w, np.arange(len(x))), w)

    step = compiled(f, max_plans=2)
    expected = [f(x) for x in inputs]

    def call(start):
        for n in range(start, start + 36):
            found = step(inputs[n % 12])
            if not np.allclose(found, expected[n % 12], rtol=1e-10, atol=1e-14):
                wrong.append(n)
            step.plans, step.plan  # noqa: B018

    threads = [threading.Thread(target=call, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- interruptions -----------------------------------------------------------------------------------------------------


def test_a_replay_that_fails_leaves_nothing_behind(compiled):
    table = leaf(5, 3000)

    def f(ids, x):
        y = x * 2.0
        return y, tr.take(table, ids, axis=0) + y

    step = compiled(f)
    kept = [step(np.array([1]), normal(3000, seed=n)) for n in range(3)]
    copies = copy.deepcopy(kept)
    with pytest.raises(IndexError):
        step(np.array([7]), normal(3000))
    for n in range(3):
        for got, want in zip(
            step(np.array([n]), normal(3000, seed=n)), f(np.array([n]), normal(3000, seed=n)), strict=True
        ):
            np.testing.assert_array_equal(got, getattr(want, "data", want))
    for got, want in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_an_interrupt_while_calls_are_bound_lets_no_result_be_written_over(compiled, monkeypatch):
    step = compiled(lambda x: x * 2.0)
    kept = [step(np.full(5000, float(n))) for n in range(2)]
    executor = next(iter(step._plans.values())).executor

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(executors_of_plans, "_BOUND", len(executor._bound))  # the oldest goes when one more comes
    monkeypatch.setattr(executor, "_bind", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(np.full(5000, 7.0))
    monkeypatch.undo()
    for n in range(10, 16):
        assert step(np.full(5000, float(n)))[0] == 2 * n
    assert [result[0] for result in kept] == [0, 2]


def test_an_interrupt_while_it_records_leaves_no_plan():
    stop = [True]

    def f(x):
        y = x * 2.0
        if stop:
            raise KeyboardInterrupt
        return y

    step = tr.compile(f)
    with pytest.raises(KeyboardInterrupt):
        step(np.ones(3))
    assert step.plans == []
    stop.clear()
    assert step(np.ones(3))[0] == 2
