"""Loops in plans: either executor does what it does with the loop taken apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import plans, without_loops
from replay import need_library, small_plans_shared
from sharing import faults

from tinygrad_rnn.compiler.executor import Executor
from tinygrad_rnn.compiler.native.encode import encode


@pytest.fixture(autouse=True)
def small_plans():
    with small_plans_shared(), np.errstate(all="ignore"):
        yield


def assert_same(plan, arrays, threads, native):
    flat, loop = Executor(without_loops(plan), threads, native), Executor(plan, threads, native)
    for scale in (1, 2):
        now = [scale * array for array in arrays]
        for want, got in zip(flat.run(now), loop.run(now), strict=True):
            np.testing.assert_array_equal(got, want)


@given(drawn=plans())
def test_numpy(drawn):
    assert_same(*drawn, 1, False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("odd", [False, True])
@given(data=st.data())
def test_native(data, threads, odd):
    need_library()
    assert_same(*data.draw(plans(odd)), threads, True)


@pytest.mark.parametrize("workers", [2, 3])
@given(drawn=plans(odd=True))
def test_no_worker_gets_in_anothers_way(drawn, workers):
    plan, _ = drawn
    assert faults(encode(plan, workers), plan.arena_bytes, workers) == []
