"""Derivatives of sigmoids move to where the sigmoids are."""

import numpy as np
import pytest
from replay import counts, normal, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.slopes import slopes_early


def leaf(*shape):
    return tr.tensor(normal(*shape), requires_grad=True)


@pytest.mark.parametrize("order", [2])
def test_slopes_of_other_numbers_stay(order):
    """Second derivatives take slopes, and sigmoids of other things, where they stand."""

    def twice(x):
        (first,) = tr.grad(np.sum(tr.sigmoid(x) ** order), [x], create_graph=True)
        return tr.grad(np.sum(first * first), x)

    graph = rewritten(twice, (leaf(4),), slopes_early)
    assert counts(graph)["sigmoid_slope"] >= 1


def test_a_plan_needs_less_memory():
    model = tr.RNNLM(65, 100, 100, np.random.default_rng(0), cell="lstm")
    ids = np.random.default_rng(1).integers(0, 65, (20, 21))

    def step(ids):
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:], model.initial_state(20))
        return tr.grad(loss, model.parameters())

    nbytes = []
    for without in ([], ["slopes_early"]):
        compiled = tr.compile(step, executor="numpy", without=without)
        compiled(ids)
        nbytes.append(compiled.plan.arena_bytes)
    # Not what the three gates are taken of, (T, N, 3 H), less what each step makes of the tails, (N, 3 H).
    assert nbytes[1] - nbytes[0] >= (20 - 2) * 20 * 300 * 4
