"""Drawn programs, compiled: values, gradients and gradients of gradients are what eager execution gives."""

import re
from pathlib import Path

import numpy as np
import pytest
from drawn import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import __file__ as PROGRAMS
from programs import lines, write
from replay import assert_replays, need_library, normal
from verdict import SETTINGS, check

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES

programs = st.builds(
    write,
    before=lines,
    body=lines,
    after=lines,
    steps=st.sampled_from([0, 0, 1, 2, 3, 5]),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 2**32 - 1),
)


drawn = given(
    program=programs,
    order=st.integers(0, 2),
    without=st.lists(st.sampled_from(list(PASSES)), max_size=1),
    setting=st.sampled_from(SETTINGS),
)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_programs(program, order, without, setting):
    need_library()
    check(program, order, without, *setting)


WRITTEN_OTHERWISE = {
    *("add", "subtract", "multiply", "divide", "negative", "power", "matmul", "getitem"),  # operators
    *("deg2rad", "rad2deg", "nanvar", "nanstd", "matvec", "cross", "hsplit", "vsplit", "dsplit"),  # derived from others
}


def test_every_operation_is_drawn():
    text = "".join(path.read_text() for path in Path(PROGRAMS).parent.glob("*.py")).replace("w.add(", "")
    public = {name for name, module in tr._MODULE_OF.items() if module == "ops"}
    missing = {name for name in public if not re.search(rf"[.\"'(]{name}\b", text)}
    assert missing - WRITTEN_OTHERWISE == set()


V = np.arange(1.0, 5.0).reshape(1, 2, 2)
FAULTS = {
    "a stack of one, weighted by a constant": lambda x: tr.grad(np.sum(tr.stack([np.exp(x)]) * V), x),
    "one part of a vector of one element": lambda x: np.unstack(np.exp(x[0, :1]))[0],
    "ids that are computed, looked up in a constant": lambda x: tr.take(V[0, 0], np.argsort(x, axis=0), axis=0),
    "ids out of range, where nothing is taken": lambda x: tr.take(x[:0, :1], np.argmax(x, axis=1) + 1, axis=1),
    "ids of an axis without length": lambda x: tr.grad(np.sum(tr.take(x[:0, :0], [0], axis=1)) + np.sum(x), x),
    "sections that overlap": lambda x: tr.grad(sum(np.sum(p * p) for p in np.split(x, [1, 0, 1])), x),
}


@pytest.mark.parametrize("f", FAULTS.values(), ids=FAULTS.keys())
def test_faults_that_drawn_programs_have_found(f):
    assert_replays(f, *[(tr.tensor(normal(2, 2, seed=seed), requires_grad=True),) for seed in range(2)])


@pytest.mark.parametrize("T", [1, 2])
def test_outputs_of_few_steps_weighted_by_a_constant(T):
    cell, weights = tr.LSTMCell(2, 3, np.random.default_rng(0), np.float64), normal(2, T, 3, seed=1)

    def f(xs):
        outputs, (h, _) = tr.unroll(cell, xs)
        return tr.grad(np.sum(outputs * weights) + np.sum(tr.stack([h]) * weights[None, :, 0]), cell.parameters())

    assert_replays(f, (normal(2, T, 2),))


def test_a_loop_whose_results_are_wanted_of_one_step_is_made_once():
    """There were two calls with one body: a pass that rewrote the body of one broke the other."""
    before = [("np.arccosh({0} * {0} + 1.5)", 1981859329), ("({0} * {0} + 1)**{0}", 1580516327)]
    body = [("np.log(1 + {0} * {0})", 557108434), ("reduction", 2425921211)]
    after = [("np.rint({})", 688717660), ("np.positive({})", 1194392650), ("({0} * {0} + 0.5)**0.5", 4288139066)]
    check(write(before, body, after, 5, "float64", 2738095170), 2, [], "numpy", 1)


@pytest.mark.nightly
@settings(max_examples=5000, derandomize=False, suppress_health_check=list(HealthCheck))
@drawn
def test_many_programs(program, order, without, setting):
    need_library()
    check(program, order, without, *setting)
