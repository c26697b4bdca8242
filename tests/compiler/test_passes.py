"""All passes, one after the other, and with each of them switched off."""

import numpy as np
import pytest
from interpret import interpret
from oracle import relative_error
from replay import arrays_of, assert_replays, counts, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES, run

N, T, D, H, V = 2, 5, 3, 4, 6


def lstm_step(ids, state, rng, model):
    value, state = model.loss(ids[:, :-1], ids[:, 1:], state, rng=rng)
    return value, state, tr.grad(value, model.parameters())


def products(graph):
    """Return how many products of matrices are computed, those in loops once for each step."""
    bodies = [call.attrs["body"] for call in graph.calls if call.name == "loop"]
    return counts(graph)["matmul"] + sum(body.steps * products(body.graph) for body in bodies)


def test_each_stage_of_a_model_computes_the_same():
    model = tr.RNNLM(V, D, H, np.random.default_rng(0), cell="lstm", layers=2, dtype=np.float64)
    ids = np.random.default_rng(1).integers(0, V, (N, T + 1))
    recorded = record(lambda ids: lstm_step(ids, None, None, model), ids)
    before = interpret(recorded.graph, arrays_of(recorded, (ids,)))
    seen = []
    for name, graph in run(recorded.graph):
        seen.append(name)
        for got, want in zip(interpret(graph, arrays_of(recorded, (ids,))), before, strict=True):
            assert relative_error(got, want) <= 1e-12, name
    assert seen == list(PASSES)
    assert products(graph) < products(record(lambda ids: lstm_step(ids, None, None, model), ids).graph)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("without", "cell"),
    [*(([name], "lstm") for name in PASSES), *((list(PASSES), cell) for cell in ("rnn", "lstm", "gru"))],
    ids=[*PASSES, "all of rnn", "all of lstm", "all of gru"],
)
def test_each_pass_can_be_switched_off(without, cell):
    model = tr.RNNLM(V, D, H, np.random.default_rng(0), cell=cell, layers=2, dropout=0.3, dtype=np.float64)
    calls = []
    for seed in range(2):
        ids = np.random.default_rng(seed).integers(0, V, (N, T + 1))
        calls.append((ids, model.initial_state(N), np.random.default_rng(seed)))
    step = assert_replays(lambda *args: lstm_step(*args, model), *calls, without=without)
    assert step.plan.passes == [name for name in PASSES if name not in without]


def test_a_pass_that_is_none_is_an_error():
    named = r"without names \['hoist'\], which are no passes; choose from roll, simplify, "
    with pytest.raises(tr.ConfigError, match=named):
        tr.compile(lambda x: x, without=["hoist", "simplify"])
