"""Where the bytes lie that a plan reads and writes: in a cache that still has them, or in memory."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.parallel.traffic import SIZES, traffic


def plan_of(function, *args):
    compiled = tr.compile(function)
    compiled(*args)
    return compiled.plan


def update(model, ids, targets, state):
    loss, state = model.loss(ids, targets, state)
    return loss, tr.grad(loss, model.parameters()), state


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_bytes_are_those_of_the_plan(cell):
    """Loops forward and in reverse, slices of windows, lookups, transposed operands."""
    model = tr.RNNLM(11, 6, 8, np.random.default_rng(0), cell=cell, layers=2)
    ids = np.random.default_rng(1).integers(0, 11, (3, 7))
    plan = plan_of(lambda ids, state: update(model, ids, ids, state), ids, model.initial_state(3))
    (levels,) = traffic([plan])
    assert sum(levels) == pytest.approx(plan.explain().nbytes, rel=1e-9)
    assert levels[1:] == (0, 0, 0), "all of it is small"


@pytest.mark.parametrize("level", range(4))
def test_arrays_lie_where_they_fit(level):
    size = (2 * SIZES[level - 1] if level else SIZES[0] // 2) // 2  # bytes of the operand, and of the result
    plan = plan_of(np.exp, np.ones(size // 4, np.float32))
    (levels,) = traffic([plan])
    assert levels == tuple(2.0 * size * (number == level) for number in range(4))


def test_a_step_of_a_loop_finds_its_matrix_where_the_step_before_has_left_it():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((512, 512)).astype(np.float32)  # 1 MiB, which is read at each step
    xs, start = rng.standard_normal((1, 300, 512)).astype(np.float32), np.zeros((1, 512), np.float32)
    plan = plan_of(lambda xs: tr.unroll(lambda x, h: ((n := np.tanh(x + h @ W)), n), xs, start)[0], xs)
    (levels,) = traffic([plan])
    assert levels[1] == pytest.approx(300 * W.nbytes, rel=0.02)


def test_a_plan_finds_what_the_one_before_has_left():
    small, large = (plan_of(np.exp, np.ones(count, np.float32)) for count in (1 << 12, 1 << 23))
    assert traffic([small, small])[1][0] == 2 << 14
    assert traffic([small, large])[0][3] == 2 << 14
