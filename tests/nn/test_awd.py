"""AWDLM: gradients with every kind of dropout, its two terms, and what is dropped when."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

RNG = np.random.default_rng


def model(**settings):
    return tr.AWDLM(7, 4, 5, RNG(0), layers=2, dtype=np.float64, **settings)


def test_gradients_and_plans():
    lm, ids = model(), RNG(1).integers(0, 7, (3, 6))
    assert check_grads(lm, ids).ok

    def step(params, ids, rng):
        loss, state = lm.loss(ids[:, :-1], ids[:, 1:], rng=rng)
        return loss, state, tr.grad(loss, params)

    compiled = tr.compile(step)
    for seed in range(3):
        loss, _, found = compiled(lm.parameters(), ids, RNG(seed))
        expected, _, wanted = step(lm.parameters(), ids, RNG(seed))
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_evaluation_drops_nothing_and_has_the_plain_loss():
    lm, ids = model(), RNG(1).integers(0, 7, (2, 6))
    logits, _ = lm(ids)
    hs = lm.embedding.data[ids]
    for cell in lm.layers:
        hs, _ = tr.unroll(cell.cell, hs)
    np.testing.assert_allclose(logits.data, hs.data @ lm.embedding.data.T, rtol=1e-12)
    loss, _ = lm.loss(ids, ids)
    assert loss.item() == tr.cross_entropy(logits, ids).item()


def test_the_two_terms_by_hand():
    nothing = {"dropout": 0.0, "between": 0.0, "words": 0.0, "weights": 0.0}
    ids = RNG(1).integers(0, 7, (2, 6))
    plain = model(alpha=0.0, beta=0.0, **nothing)
    hs = plain.embedding.data[ids]
    for cell in plain.layers:
        hs, _ = tr.unroll(cell.cell, hs)
    loss = plain.loss(ids, ids, rng=RNG(0))[0].item()
    both = model(alpha=2.0, beta=3.0, **nothing).loss(ids, ids, rng=RNG(0))[0].item()
    change = np.diff(hs.data, axis=1)
    assert both - loss == pytest.approx(2 * np.mean(hs.data**2) + 3 * np.mean(change**2), rel=1e-9)


def test_words_are_dropped_as_a_whole():
    lm = model(dropout=0.0, between=0.0, weights=0.0, words=0.5, alpha=0.0, beta=0.0)
    ids = np.arange(7)[:, None]
    fresh, drawn = lm(ids)[0].data, lm(ids, rng=RNG(3))[0].data
    zero = np.zeros((1, 1, 4))
    for cell in lm.layers:
        zero, _ = tr.unroll(cell.cell, zero)
    dropped = [np.allclose(row, (zero.data @ lm.embedding.data.T)[0]) for row in drawn]
    assert 0 < sum(dropped) < 7
    assert not any(np.allclose(row, other) for row, other, gone in zip(fresh, drawn, dropped, strict=True) if not gone)


def test_errors():
    with pytest.raises(tr.ConfigError, match="AWDLM: words"):
        model(words=1.0)
    with pytest.raises(tr.ShapeError, match=r"AWDLM: expected ids of shape \(N, T\), got \(3,\)"):
        model()(np.arange(3))
