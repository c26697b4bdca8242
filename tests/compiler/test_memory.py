"""What an executor holds on to between replays."""

import gc
import weakref

import numpy as np
import pytest
from replay import normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.build import available
from tinygrad_rnn.compiler.plans.layout import make_plan
from tinygrad_rnn.compiler.replay.executor import Executor

LARGE, SMALL = (512, 300), (4, 3)  # float64: more than 1 MiB, and next to nothing
NATIVE = [False, *([True] if available() else [])]


def updates(shape):
    """Return a plan that takes two parameters and a gradient, and returns new parameters and a sum."""
    args = normal(*shape), normal(*shape), normal(*shape)
    return make_plan(record(lambda p, q, g: (p - 0.5 * g, q + p * g, np.sum(q)), *args).graph)


def frozen(seed):
    array = normal(*LARGE, seed=seed)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("native", NATIVE)
def test_copies_of_parameters_go_when_the_last_results_take_their_place(native):
    executor = Executor(updates(LARGE), native=native)
    p, q = frozen(0), frozen(1)
    given = weakref.ref(p), weakref.ref(q)
    p, q, _ = executor.run([p, q, frozen(2)])
    gc.collect()
    assert [array() for array in given] == [None, None]  # what was copied is not held
    with_copies = executor.nbytes
    for _ in range(4):
        p, q, _ = executor.run([p, q, frozen(2)])
    blocks = 2 * p.nbytes  # of the second set, which the second replay needed
    assert executor.nbytes == with_copies + blocks - 2 * p.nbytes


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("writeable", [False, True])
def test_inputs_that_are_results_or_not_in_any_order(writeable, shape, native):
    executor = Executor(updates(shape), native=native)
    p, q = own = normal(*shape, seed=1), normal(*shape, seed=2)
    for array in own:
        array.flags.writeable = writeable
    for number in range(30):
        which = np.random.default_rng(number).integers(0, 4)
        p, q = (own[0] if which & 1 else p), (own[1] if which & 2 else q)
        g = normal(*shape, seed=3 + number)
        expected = p - 0.5 * g, q + p * g, np.sum(q)
        before = p.copy(), q.copy()
        found = executor.run([p, q, g])
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        assert np.array_equal(p, before[0])
        assert np.array_equal(q, before[1])
        p, q = found[:2]
        if writeable:
            own[0][0, 0] += 1  # their owner may change them at any time
            own[1][0, 0] -= 1


def test_a_frozen_array_that_is_gone_is_not_mistaken_for_a_new_one():
    executor = Executor(updates(LARGE))
    for number in range(6):  # each may come to lie where the last one lay
        p, q, g = frozen(number), frozen(10 + number), frozen(20 + number)
        found = executor.run([p, q, g])[0].copy()
        assert np.array_equal(found, p - 0.5 * g)
        del p, q, g


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_all_lengths_share_one_copy_of_the_weights(executor):
    W = tr.tensor(normal(70, 70, seed=1))  # 39 KiB
    step = tr.compile(lambda xs, h: tr.scan(lambda x, h: (np.tanh(x @ W + h),) * 2, h, xs, axis=0), executor=executor)

    def check(T, xs=None):
        xs, h = normal(T, 4, 70, seed=T) if xs is None else xs, normal(4, 70)
        for part, want in zip(step(xs, h), step.function(xs, h), strict=True):
            np.testing.assert_allclose(part, want.data, rtol=1e-12, atol=1e-14)

    kept = normal(8, 4, 70, seed=8)
    kept.flags.writeable = False
    for T in (9, 10, 12, 30, 9, 11):  # from the third on without passes; the copy of xs grows
        check(T)
        check(8, kept)
    assert len({id(ready.executor._copies[2]) for ready in step._plans.values()}) == 1
    W.data = normal(70, 70, seed=2)
    for T in (10, 30, 9):
        check(T)
