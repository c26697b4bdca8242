"""evaluate: each token once, with equal weight."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, CorpusError
from tinygrad_rnn.training import Evaluation, Evaluator, evaluate, perplexity

MODEL = tr.RNNLM(6, 4, 4, np.random.default_rng(1), cell="gru", dtype=np.float64, dropout=0.5)


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 60), N=st.integers(1, 9), T=st.integers(1, 12))
def test_is_the_mean_over_all_tokens(seed, length, N, T):
    ids = np.random.default_rng(seed).integers(6, size=length)
    found = evaluate(MODEL, ids, N, T)
    assert found.tokens == length - 1
    assert found.batch_size == min(N, max(1, (length - 1) // T))
    # By hand: cut the positions into streams of equal length, the last ones shorter, and read each on its own.
    size = math.ceil((length - 1) / found.batch_size)
    nats = 0.0
    for start in range(0, length - 1, size):
        part = ids[start : start + size + 1]
        logits, _ = MODEL(part[None, :-1])
        logp = tr.log_softmax(logits, axis=2).data[0]
        nats -= sum(logp[t, target] for t, target in enumerate(part[1:]))
    assert math.isclose(found.nats, nats / (length - 1), rel_tol=1e-10)


def test_window_length_changes_nothing():
    ids = np.random.default_rng(0).integers(6, size=100)
    losses = [evaluate(MODEL, ids, 3, T).nats for T in (1, 7, 33)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_nothing_is_recorded_and_parameters_stay():
    before = {name: p.data for name, p in MODEL.parameters().items()}
    evaluate(MODEL, [0, 1, 2], 1, 2)
    assert all(p.data is before[name] and p.grad is None for name, p in MODEL.parameters().items())
    assert (MODEL.parameters()["layers.0.b"] * 2).requires_grad  # recording is on again


@pytest.mark.parametrize(
    ("ids", "N", "T", "error"), [([1], 1, 1, CorpusError), ([1, 2], 0, 1, ConfigError), ([1, 2], 1, 0, ConfigError)]
)
def test_refuses(ids, N, T, error):
    with pytest.raises(error, match="evaluate"):
        evaluate(MODEL, ids, N, T)


def test_units():
    found = Evaluation(nats=math.log(8), tokens=1, batch_size=1)
    assert math.isclose(found.perplexity, 8)
    assert math.isclose(found.bits, 3)
    assert perplexity(1e6) == math.inf


# -- compiled ---------------------------------------------------------------------------------------------------------

WAYS = [{}, {"executor": "numpy"}, {"compiled": False}]
MODELS = [
    tr.RNNLM(6, 3, 4, np.random.default_rng(2), cell="rnn", dtype=np.float64),
    tr.RNNLM(6, 3, 4, np.random.default_rng(2), cell="lstm", layers=2, dtype=np.float64),
    MODEL,
]


@pytest.mark.parametrize("model", MODELS, ids=["rnn", "lstm", "gru"])
@pytest.mark.parametrize(("length", "N", "T"), [(100, 3, 7), (100, 3, 11), (30, 4, 50), (2, 5, 5), (61, 1, 60)])
def test_compiled_is_eager(model, length, N, T):
    ids = np.random.default_rng(length).integers(6, size=length)
    found = [evaluate(model, ids, N, T, **way) for way in WAYS]
    for one in found[:2]:
        assert math.isclose(one.nats, found[2].nats, rel_tol=1e-12)
        assert (one.tokens, one.batch_size) == (found[2].tokens, found[2].batch_size)


class Watched:
    """Counts how often its loss runs, with which shapes."""

    def __init__(self, model):
        self.model, self.initial_state, self.shapes = model, model.initial_state, []

    def loss(self, ids, targets, state):
        self.shapes.append(ids.shape)
        return self.model.loss(ids, targets, state)


def test_one_plan_serves_all_windows_and_all_texts_of_as_many_streams():
    model, ids = Watched(MODELS[1]), np.random.default_rng(0).integers(6, size=100)
    evaluator = Evaluator(model)
    first = evaluator(ids, 3, 7)
    for p in model.model.parameters().values():
        p.data = p.data * 1.5  # as training does between two evaluations
    try:
        second = evaluator(ids[:80], 3, 7)
        assert model.shapes == [(3, 7)]  # recorded once, the short window included
        assert math.isclose(second.nats, evaluate(model.model, ids[:80], 3, 7, compiled=False).nats, rel_tol=1e-12)
    finally:
        for p in model.model.parameters().values():
            p.data = p.data / 1.5
    assert math.isclose(first.nats, evaluate(model.model, ids, 3, 7, compiled=False).nats, rel_tol=1e-12)
    model.shapes.clear()
    evaluate(model, ids, 3, 7, compiled=False)
    assert model.shapes == [(3, 7)] * 4 + [(3, 5)]


def test_a_loss_that_cannot_be_compiled_says_why_and_is_the_same():
    class Deciding(Watched):
        def loss(self, ids, targets, state):
            loss, state = self.model.loss(ids, targets, state)
            return (loss if float(loss.item()) > 0 else loss * 2), state

    ids = np.random.default_rng(0).integers(6, size=100)
    with pytest.warns(UserWarning, match="evaluate: it runs operation by operation.*the value of a Tensor"):
        found = evaluate(Deciding(MODEL), ids, 3, 7)
    assert math.isclose(found.nats, evaluate(MODEL, ids, 3, 7).nats, rel_tol=1e-12)


def test_ids_outside_the_vocabulary_are_named_as_eagerly():
    for way in WAYS:
        with pytest.raises(IndexError, match=r"Embedding: ids must lie in \[0, V\) with V=6"):
            evaluate(MODEL, [9, 0, 1, 2], 1, 2, **way)


@pytest.mark.parametrize(("way", "message"), [({"executor": "gpu"}, "executor"), ({"compiled": None}, "compiled")])
def test_refuses_settings(way, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(MODEL, [0, 1, 2], 1, 2, **way)
