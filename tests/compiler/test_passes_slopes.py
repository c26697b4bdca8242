"""Derivatives of sigmoids move to where the sigmoids are."""

import numpy as np
import pytest
from replay import counts, normal, replay_call, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.slopes import SIGMOID, SLOPE, TAIL, slopes_early


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


@pytest.mark.parametrize("run", [replay_call, lambda operator, inputs, outs: operator.compute(*inputs, out=outs[0])])
@pytest.mark.parametrize(("dtype", "end"), [("f4", 80), ("f8", 700)])
def test_sigmoids_and_slopes_keep_their_digits_however_far_out(run, dtype, end):
    x = np.concatenate([np.linspace(-end, end, 41), [-1e-9, 0.0, -0.0, 1e-9, 1e4, -1e4, np.nan]]).astype(dtype)
    tails, values, slopes = (np.empty_like(x) for _ in range(3))
    run(TAIL, [x], [tails])
    run(SIGMOID, [tails], [values])
    run(SLOPE, [tails], [slopes])
    e = np.exp(-np.abs(x.astype("f8")))
    near = {"rtol": 8 * np.finfo(dtype).eps, "atol": 2 * np.finfo(dtype).tiny}
    np.testing.assert_allclose(values, np.where(x > 0, 1, e) / (1 + e), **near)
    np.testing.assert_allclose(slopes, e / (1 + e) ** 2, **near)
