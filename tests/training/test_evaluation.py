"""evaluate: each token once, with equal weight."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, CorpusError
from tinygrad_rnn.training import Evaluation, evaluate, perplexity

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
