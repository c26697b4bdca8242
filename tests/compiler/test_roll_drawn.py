"""Loops written in Python, drawn: the graph that is rolled up computes the same; and repeats in lists of any kind."""

from itertools import pairwise

import numpy as np
import pytest
from drawn import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recurrences import write
from replay import assert_replays, need_library, record, rolled

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.rolling.periods import Run, runs
from tinygrad_rnn.compiler.passes.rolling.roll import roll

drawn = given(
    program=st.builds(
        write,
        seed=st.integers(0, 2**32 - 1),
        steps=st.integers(1, 9),
        dtype=st.sampled_from(["float64", "float64", "float32"]),
    )
)


def check(program):
    f, args = program.function(), (program.xs, np.random.default_rng(3))
    with np.errstate(all="ignore"):
        try:
            record(f, *args)
        except tr.GradientError:  # the loss depends on nothing
            return
        graph = rolled(f, *args, tolerance=1e-10 if program.xs.dtype == np.float64 else 2e-4)
        before = len(graph.calls)
        assert len(roll(graph).calls) == before


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_drawn_recurrences(program):
    check(program)


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_drawn_recurrences_compiled(program):
    need_library()
    with np.errstate(all="ignore"):
        f, args = program.function(), (program.xs, np.random.default_rng(3))
        try:
            record(f, *args)
        except tr.GradientError:
            return
        assert_replays(f, args, args, tolerance=1e-10 if program.xs.dtype == np.float64 else 3e-4)


@pytest.mark.nightly
@settings(max_examples=5000, derandomize=False, suppress_health_check=list(HealthCheck))
@drawn
def test_many_drawn_recurrences(program):
    check(program)


# -- periods ----------------------------------------------------------------------------------------------------------


@given(
    before=st.lists(st.integers(0, 5), max_size=5),
    period=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    times=st.integers(3, 20),
    after=st.lists(st.integers(0, 5), max_size=5),
)
def test_what_repeats_is_found(before, period, times, after):
    roles = np.array(before + period * times + after)
    found = runs(roles)
    for run in found:
        part = roles[run.start : run.end]
        assert len(part) >= 2 * run.period
        assert np.array_equal(part[run.period :], part[: -run.period])
    for one, other in pairwise(found):
        assert one.end <= other.start
    # It saves as much as one period in place of all, at least.
    assert sum(run.saved for run in found) >= len(period) * (times - 1)


def test_roles_that_do_not_repeat():
    assert runs(np.arange(20)) == []
    assert runs(np.array([], np.int64)) == []
    assert runs(np.array([3, 3])) == [Run(0, 2, 1)]
